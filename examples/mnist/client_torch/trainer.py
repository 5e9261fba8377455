"""MNIST with PyTorch: the network and the data of the Keras package beside it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedmq_client import Client, TorchTrainer

DATA = Path(__file__).parent.parent / "data"
Batch = tuple[Tensor, Tensor]


class MnistTrainer(TorchTrainer):
    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        )

    def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        with np.load((client.data or DATA) / "mnist-12k.npz") as digits:
            x, y = digits["x_train"], digits["y_train"]
        part = client.part(y)
        return x[part, None] / np.float32(255), y[part]

    def test_data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        with np.load((client.data or DATA) / "mnist-12k.npz") as digits:
            return digits["x_test"][:, None] / np.float32(255), digits["y_test"]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        return {"accuracy": (model(x).argmax(dim=1) == y).float().mean()}

    def optimizer(self, parameters: object) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.002)  # type: ignore[arg-type]
