"""Helpers for trainers that are written by hand for a PyTorch module. Needs torch.

    import fedmq_client.torch

    class MyTrainer:
        def __init__(self, client):
            self.net = Net()

        def init(self):
            return fedmq_client.torch.get(self.net)

        def roles(self):
            return fedmq_client.torch.roles(self.net)

        def train(self, weights, task):
            fedmq_client.torch.put(self.net, weights)
            ...  # train self.net
            return fedmq_client.torch.get(self.net), examples, {}

`roles` matters: without it the means and variances of batch norm count as trainable, and server optimizers such as FedAdam
step them. `TorchTrainer` does all of this itself.
"""

from torch import nn

from fedmq.tensors import Weights
from fedmq_client.frameworks.torch import put_weights, roles_of, weights_of

__all__ = ["get", "put", "roles"]


def get(model: nn.Module) -> Weights:
    """Returns copies of the tensors of the module's state dict, as numpy arrays.

    They are named by position and name, such as `0003/fc.weight`. Half precision becomes float32.
    """
    return weights_of(model)


def put(model: nn.Module, weights: Weights) -> None:
    """Loads weights into the module, on its device.

    Their names are those of `get`, the names of the state dict, or numbers from 0. Raises ConfigError for other names or
    shapes.
    """
    put_weights(model, weights)


def roles(model: nn.Module) -> dict[str, str]:
    """Returns the role of each tensor, by the names of `get`.

    Tensors with a gradient are trainable. Other floats, such as batch-norm means and variances, are statistics. Single
    integers are counters. Further integers, such as position ids, and booleans are constant.
    """
    return roles_of(model)
