"""A linear classifier of scikit-learn. Put your estimator into `model` and your data into `data`."""

import numpy as np
from sklearn.linear_model import SGDClassifier

from fedmq_client import Client, SklearnTrainer


class MyTrainer(SklearnTrainer):
    classes = range(2)

    def model(self) -> SGDClassifier:
        return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.05)

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
    return source.normal(size=(1000, 4)) + y[:, None], y
