"""The 1,797 small digits of scikit-learn, classified by a linear classifier."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from fedmq_client import Client, SklearnTrainer

TEST_ROWS = 360
"""The last digits: the evaluator's, in no other client's part."""


class DigitsTrainer(SklearnTrainer):
    classes = range(10)

    def model(self) -> SGDClassifier:
        return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.1, alpha=1e-4)

    def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        x, y = load_digits(return_X_y=True)
        part = client.part(y[:-TEST_ROWS])
        return x[part] / 16, y[part]

    def test_data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        x, y = load_digits(return_X_y=True)
        return x[-TEST_ROWS:] / 16, y[-TEST_ROWS:]
