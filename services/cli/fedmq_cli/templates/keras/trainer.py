"""A small network in Keras. Put your network into `model` and your data into `data`."""

import keras
import numpy as np

from fedmq_client import Client, KerasTrainer


class MyTrainer(KerasTrainer):
    def model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.layers.Input((4,)),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.Dense(2, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

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


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    y = source.integers(0, 2, 1000)
    return (source.normal(size=(1000, 4)) + y[:, None]).astype(np.float32), y
