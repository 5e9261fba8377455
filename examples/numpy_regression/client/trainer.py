"""Linear regression by gradient descent, in numpy alone.

Each task is one step down the gradient of the client's own patients. As the combiners weigh each
step by its number of patients, the mean step is the one that all patients together would give.

With `steps` above 1 the clients walk on alone before their steps are averaged, and drift apart
where their patients differ; `proximal_mu` holds them back (FedProx, Li et al. 2020).
"""

from pathlib import Path

import numpy as np

from fedmq_client import Client, Task, Weights

DATA = Path(__file__).parent.parent / "data" / "diabetes.csv"
TEST_ROWS = 42
"""The last rows of the example's file: the evaluator's, in no other client's part. A site's own file is used whole."""
MEAN = np.array([48.5, 1.5, 26.4, 94.6, 49.8, 4.64, 91.3])
SCALE = np.array([13.1, 0.5, 4.4, 13.8, 12.9, 0.52, 11.5])
"""Published means and spreads of the seven measurements, so that no client has to tell its own."""


class RegressionTrainer:
    test_set = True

    def __init__(self, client: Client) -> None:
        rows = np.loadtxt(client.data or DATA, delimiter=",", skiprows=1, ndmin=2)
        if client.data:
            mine = rows
        else:
            train, test = rows[:-TEST_ROWS], rows[-TEST_ROWS:]
            decades = train[:, 0] // 10
            mine = test if client.evaluator else train[client.part(decades)]
        self.x = (mine[:, :-1] - MEAN) / SCALE
        self.y = mine[:, -1]

    def init(self) -> Weights:
        return {"coefficients": np.zeros(self.x.shape[1]), "intercept": np.zeros(1)}

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]]:
        rate = task.config.get("learning_rate", 0.6)
        mu = task.config.get("proximal_mu", 0.0)
        start = {name: value.copy() for name, value in weights.items()}
        first = self._errors(weights)
        for _ in range(task.config.get("steps", 1)):
            error = self._errors(weights)
            pull = {name: mu * (value - start[name]) for name, value in weights.items()}
            weights["coefficients"] -= rate * ((self.x.T @ error) / len(error) + pull["coefficients"])
            weights["intercept"] -= rate * (error.mean() + pull["intercept"])
        return weights, len(first), {"mse": float((first**2).mean())}

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]]:
        error = self._errors(weights)
        return len(error), {"mse": float((error**2).mean())}

    def _errors(self, weights: Weights) -> np.ndarray:
        errors: np.ndarray = self.x @ weights["coefficients"] + weights["intercept"] - self.y
        return errors
