"""No score is called a test score unless the package states a test set, on which it was not trained."""

from __future__ import annotations

from pathlib import Path

from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from support.packages import write_package

BY_HEART = """
import numpy as np

class Trainer:
    '''Learns coin flips by heart: the truth about new ones is one half.'''
    def __init__(self, client):
        source = np.random.default_rng(client.ordinal)
        rows = ROWS
        self.x = source.normal(size=(rows, 600))
        self.y = source.integers(0, 2, rows) * 2.0 - 1

    def init(self):
        return {"w": np.zeros(600)}

    def train(self, weights, task):
        weights["w"] = weights["w"] + np.linalg.pinv(self.x) @ (self.y - self.x @ weights["w"])
        return weights, len(self.y), {"accuracy": self.accuracy(weights)}

    def validate(self, weights, task):
        return len(self.y), {"accuracy": self.accuracy(weights)}

    def accuracy(self, weights):
        return float((np.sign(self.x @ weights["w"]) == self.y).mean())
"""
UNAWARE = BY_HEART.replace("ROWS", "20")
HELD_OUT = (
    BY_HEART.replace("    def __init__", "    test_set = True\n\n    def __init__")
    .replace(
        "source = np.random.default_rng(client.ordinal)",
        "source = np.random.default_rng(99 if client.evaluator else client.ordinal)",
    )
    .replace("ROWS", "2000 if client.evaluator else 20")
)


def test_labels_learned_by_heart_give_no_test_score_without_a_test_set(tmp_path: Path) -> None:
    with Sandbox(write_package(tmp_path / "package", UNAWARE), clients=3, workers=0, rounds=6, random_seed=1) as box:
        rounds = list(box.rounds())
        metrics = box.model()["metrics"]
        assert metrics["accuracy"]["mean"] == 1.0  # of the data that was trained on, and called that
        assert not [name for each in rounds for name in each.metrics if name.startswith("test/")]
        assert not [name for name in metrics if name.startswith("test/")]
        assert box.untested.startswith("the package states no test set")
        for found in box.records.find(tables.VALIDATIONS, {"client": "evaluator"}):
            assert found["metrics"] == {} and found["reason"] == box.untested


def test_a_held_out_test_set_of_random_labels_gives_about_chance(tmp_path: Path) -> None:
    with Sandbox(write_package(tmp_path / "package", HELD_OUT), clients=3, workers=0, rounds=6, random_seed=1) as box:
        box.run()
        metrics = box.model()["metrics"]
        assert metrics["accuracy"]["mean"] == 1.0
        assert abs(metrics["test/accuracy"]["mean"] - 0.5) < 0.05  # of 2,000 coin flips: more than four deviations
        assert box.untested == ""


def test_without_a_test_set_early_stopping_follows_the_clients_validations(tmp_path: Path) -> None:
    package, stop = write_package(tmp_path / "package", UNAWARE), {"target": 0.99}
    with Sandbox(package, clients=3, workers=0, rounds=4, random_seed=1, stop=stop) as box:
        session = box.run()
        assert (session["score"]["metric"], session["score"]["mode"]) == ("accuracy", "max")
        assert session["reason"].startswith("accuracy has reached 0.99")
        assert box.model("best")["best"]["metric"] == "accuracy"
