"""Logistic regression by gradient descent. Put your data into `load` and your model into the methods."""

import numpy as np

from fedmq_client import Client, Task, Weights

DEFAULTS = {"epochs": 5, "learning_rate": 0.5}
"""What a session may configure, as in `fedmq start --set train.epochs=3`."""


def load(client: Client) -> tuple[np.ndarray, np.ndarray]:
    """This site's examples and labels: the file that FEDN_DATA_PATH names, or its part of made-up points.

    `client.part` divides data that all sites hold. An evaluator's are a test set, which no client trains on.
    """
    if client.data is not None:
        with np.load(client.data) as arrays:
            return arrays["x"], arrays["y"]
    source = np.random.default_rng(0 if client.evaluator else 1)
    y = source.integers(0, 2, 1000)
    x = source.normal(size=(1000, 4)) + y[:, None]
    if client.evaluator:
        return x, y
    mine = client.part(y)
    return x[mine], y[mine]


class MyTrainer:
    test_set = True  # `load` has examples for an evaluator; delete this line if there are none

    def __init__(self, client: Client) -> None:
        self.x, self.y = load(client)

    def init(self) -> Weights:
        return {"w": np.zeros(self.x.shape[1]), "b": np.zeros(1)}

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]]:
        if unknown := task.config.keys() - DEFAULTS.keys():
            raise ValueError(
                f"unknown configuration train.{', train.'.join(unknown)}: known are train.{', train.'.join(DEFAULTS)}"
            )
        config = {**DEFAULTS, **task.config}
        for _ in range(config["epochs"]):
            task.check()
            error = self._probability(weights) - self.y
            for name, gradient in (("w", self.x.T @ error / len(error)), ("b", error.mean())):
                if name not in task.frozen:
                    weights[name] -= config["learning_rate"] * gradient
        return weights, len(self.y), self._metrics(weights)

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]]:
        return len(self.y), self._metrics(weights)

    def _probability(self, weights: Weights) -> np.ndarray:
        probability: np.ndarray = 1 / (1 + np.exp(-(self.x @ weights["w"] + weights["b"])))
        return probability

    def _metrics(self, weights: Weights) -> dict[str, float]:
        return {"accuracy": float(((self._probability(weights) > 0.5) == self.y).mean())}
