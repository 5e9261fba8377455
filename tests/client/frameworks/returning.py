"""Trainers whose data is what a test says, and kinds of datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import torch
from keras import layers
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset

from fedmq_client import Client, KerasTrainer, SklearnTrainer, TorchTrainer

CLIENT = Client("c", device="cpu")
X = np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
ROWS = [(torch.from_numpy(x), torch.tensor(y)) for x, y in zip(X, Y, strict=True)]


class Returns:
    """A trainer whose data is what a test says."""

    found: ClassVar[Callable[[], Any]]

    def data(self, client: Client) -> Any:
        return type(self).found()


class Torch(Returns, TorchTrainer):
    def model(self) -> nn.Module:
        return nn.Linear(3, 2)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y.long().flatten())


class Keras(Returns, KerasTrainer):
    def model(self) -> Any:
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model


class Sklearn(Returns, SklearnTrainer):
    classes = (0, 1)

    def model(self) -> Any:
        return SGDClassifier(loss="log_loss")


class Network(Sklearn):
    def model(self) -> Any:
        return MLPClassifier((4,))


class Warm(Sklearn):
    def model(self) -> Any:
        return LogisticRegression(warm_start=True)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(ROWS)


class Items(Dataset[Any]):
    """Items that can't be collated without a function of their own."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return Path("image"), int(Y[index])


class Sized:
    """No Dataset by class, as those of Hugging Face."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return ROWS[index]


class Unsized(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return ROWS[index]


def collated(items: Any) -> Any:
    return torch.from_numpy(X[: len(items)]), torch.tensor([y for _, y in items])
