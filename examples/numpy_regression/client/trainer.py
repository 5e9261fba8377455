"""Linear regression by gradient descent, in numpy alone.

Each task is one step down the gradient of the client's own patients. As the combiners weigh each
step by its number of patients, the mean step is the one that all patients together would give.
"""

from pathlib import Path

import numpy as np

from fedmq_client import Client, Task, Weights

DATA = Path(__file__).parent.parent / "data" / "diabetes.csv"
TEST_ROWS = 42
"""The last rows of the file: the evaluator's, in no other client's part."""
MEAN = np.array([48.5, 1.5, 26.4, 94.6, 49.8, 4.64, 91.3])
SCALE = np.array([13.1, 0.5, 4.4, 13.8, 12.9, 0.52, 11.5])
"""Published means and spreads of the seven measurements, so that no client has to tell its own."""


class RegressionTrainer:
    def __init__(self, client: Client) -> None:
        rows = np.loadtxt(client.data or DATA, delimiter=",", skiprows=1)
        train, test = rows[:-TEST_ROWS], rows[-TEST_ROWS:]
        decades = train[:, 0] // 10
        mine = test if client.evaluator else train[client.part(decades)]
        self.x = (mine[:, :-1] - MEAN) / SCALE
        self.y = mine[:, -1]

    def init(self) -> Weights:
        return {"coefficients": np.zeros(self.x.shape[1]), "intercept": np.zeros(1)}

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]]:
        rate = task.config.get("learning_rate", 0.6)
        error = self._errors(weights)
        weights["coefficients"] -= rate * (self.x.T @ error) / len(error)
        weights["intercept"] -= rate * error.mean()
        return weights, len(error), {"mse": float((error**2).mean())}

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]]:
        error = self._errors(weights)
        return len(error), {"mse": float((error**2).mean())}

    def _errors(self, weights: Weights) -> np.ndarray:
        errors: np.ndarray = self.x @ weights["coefficients"] + weights["intercept"] - self.y
        return errors
