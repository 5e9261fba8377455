"""A small scikit-learn trainer."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.neural_network import MLPClassifier

from client.frameworks.examples import X, Y
from fedmq_client import Client, SklearnTrainer


class Small(SklearnTrainer):
    """A network: an optimizer with state, and a last batch that is not full."""

    classes: ClassVar[Sequence[Any] | None] = (0, 1)
    config_keys = ("mine",)
    examples: ClassVar[tuple[np.ndarray, np.ndarray]] = (X, Y)
    loads = 0

    def model(self) -> Any:
        return MLPClassifier((8,))

    def data(self, client: Client) -> Any:
        type(self).loads += 1
        return self.examples


Base = SklearnTrainer
METRICS: set[str] = set()
"""What training reports."""
