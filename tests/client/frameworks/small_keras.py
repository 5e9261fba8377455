"""Small Keras trainers: one with all that a network may have, and one with a single weight."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers

from client.frameworks.examples import LINE, X, Y
from fedmq_client import Client, KerasTrainer


class Small(KerasTrainer):
    """Dropout, batch-norm, an optimizer with state, and a last batch that is not full."""

    config_keys = ("mine",)
    examples: ClassVar[tuple[np.ndarray, np.ndarray]] = (X, Y)
    loads = 0

    def model(self) -> keras.Model:
        model = keras.Sequential(
            [
                layers.Input((4,)),
                layers.Dense(8, activation="relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                layers.Dense(2, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def data(self, client: Client) -> Any:
        type(self).loads += 1
        return self.examples


class Line(KerasTrainer):
    """One weight, and nothing random."""

    def model(self) -> keras.Model:
        model = keras.Sequential([layers.Input((1,)), layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    def data(self, client: Client) -> Any:
        return LINE


Base = KerasTrainer
METRICS = {"loss", "accuracy"}
"""What training reports."""
WEIGHT = "0000/kernel"
"""The weight of `Line`."""
