"""Small PyTorch trainers: one with all that a module may have, and one with a single weight."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from client.frameworks.examples import LINE, X, Y
from fedmq_client import Client, TorchTrainer


class Small(TorchTrainer):
    """Dropout, batch-norm, an optimizer with state, and a last batch that is not full."""

    config_keys = ("mine",)
    examples: ClassVar[tuple[np.ndarray, np.ndarray]] = (X, Y)
    loads = 0

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    def data(self, client: Client) -> Any:
        type(self).loads += 1
        return self.examples

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        x, y = batch
        return {"accuracy": (model(x).argmax(dim=1) == y).float().mean()}


class Line(TorchTrainer):
    """One weight, and nothing random."""

    def model(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def data(self, client: Client) -> Any:
        return LINE

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.mse_loss(model(x), y)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)


Base = TorchTrainer
METRICS = {"loss"}
"""What training reports."""
WEIGHT = "0000/weight"
"""The weight of `Line`."""
