"""MNIST with Keras: each client trains on its part of 10,000 digits; the evaluator scores 2,000."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from fedmq_client import Client, KerasTrainer

DATA = Path(__file__).parent.parent / "data"


class MnistTrainer(KerasTrainer):
    def model(self) -> keras.Model:
        model = keras.Sequential(
            [
                layers.Input((28, 28, 1)),
                layers.Conv2D(32, 3, activation="relu"),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Dropout(0.25),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
                layers.Dropout(0.5),
                layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        with np.load((client.data or DATA) / "mnist-12k.npz") as digits:
            x, y = digits["x_train"], digits["y_train"]
        part = client.part(y)
        return x[part, ..., None] / np.float32(255), y[part]

    def test_data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        with np.load((client.data or DATA) / "mnist-12k.npz") as digits:
            return digits["x_test"][..., None] / np.float32(255), digits["y_test"]
