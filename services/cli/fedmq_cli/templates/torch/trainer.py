"""A small network in PyTorch. Put your network into `model`, your data into `data`, and what to minimize into `loss`.

For a training loop of your own, write a plain class: `fedmq_client.torch` has `get`, `put` and `roles` for its module.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedmq_client import Client, Task, TorchTrainer

Batch = tuple[Tensor, Tensor]


class MyTrainer(TorchTrainer):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

    def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        """This site's examples and labels: the file that FEDN_DATA_PATH names, or its part of made-up points.

        `client.part` divides data that all sites hold.
        """
        if client.data is not None:
            with np.load(client.data) as arrays:
                return arrays["x"], arrays["y"]
        x, y = made_up(1)
        mine = client.part(y)
        return x[mine], y[mine]

    def test_data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        """What an evaluator scores: examples that no client trains on. Delete this method if there are none."""
        return self.data(client) if client.data is not None else made_up(0)

    def optimizer(self, parameters: Iterable[nn.Parameter], task: Task) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.02)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        return {"accuracy": (model(x).argmax(dim=1) == y).to(torch.float32).mean()}


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    y = source.integers(0, 2, 1000)
    return (source.normal(size=(1000, 4)) + y[:, None]).astype(np.float32), y
