"""A small network in PyTorch. Put your network into `model`, your data into `data`, and what to minimize into `loss`.

For a training loop of your own, write a plain class: `fedmq_client.torch` has `get`, `put` and `roles` for its module.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedmq_client import Client, TorchTrainer

Batch = tuple[Tensor, Tensor]


class MyTrainer(TorchTrainer):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

    def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        """This site's examples and labels. `client.data` is what FEDN_DATA_PATH names; without it, made-up points."""
        if client.data is not None:
            with np.load(client.data) as arrays:
                return arrays["x"], arrays["y"]
        return made_up(1 + client.ordinal)

    def test_data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        """What an evaluator scores: examples that no client trains on. Delete this method if there are none."""
        return self.data(client) if client.data is not None else made_up(0)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.02)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        return {"accuracy": (model(x).argmax(dim=1) == y).to(torch.float32).mean()}


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    y = source.integers(0, 2, 200)
    return (source.normal(size=(200, 4)) + y[:, None]).astype(np.float32), y
