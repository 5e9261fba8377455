"""Partitions of any size: 0, 1, one less than a batch, a batch, and one more, with and without batch norm."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from client.frameworks.examples import X, Y
from fedmq_client import Client, Task
from support.tiers import require_framework

pytestmark = pytest.mark.real

CLIENT = Client("c", device="cpu", random_seed=4)
BATCH = 8


def _trainer(framework: str, x: Any, y: Any) -> Any:
    require_framework(framework)
    small = import_module(f"client.frameworks.small_{framework}").Small
    return type("Sized", (small,), {"examples": (x, y)})(CLIENT)


@pytest.mark.parametrize("framework", ["keras", "torch", "sklearn"])
@pytest.mark.parametrize("size", [0, 1, BATCH - 1, BATCH, BATCH + 1])
def test_a_partition_of_any_size_is_trained_and_scored(framework: str, size: int) -> None:
    trainer = _trainer(framework, X[:size], Y[:size])
    weights = trainer.init()
    task = Task(client=CLIENT, seed=1, config={"batch_size": BATCH, "epochs": 2})
    answer = trainer.train({name: value.copy() for name, value in weights.items()}, task)
    scored = trainer.validate(weights, task)
    if size == 0:
        assert (answer[1], scored) == (0, (0, {})), "which is to abstain"
        return
    assert (answer[1], scored[0]) == (size, size)
    for name, value in answer[0].items():
        assert np.isfinite(value).all(), name
    assert any((value != weights[name]).any() for name, value in answer[0].items())
    # The mean over all examples is that of single ones.
    losses = [_trainer(framework, X[i : i + 1], Y[i : i + 1]).validate(weights, task)[1]["loss"] for i in range(size)]
    assert scored[1]["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)


@pytest.mark.parametrize("framework", ["keras", "torch"])
@pytest.mark.parametrize("size", [1, BATCH - 1, BATCH, BATCH + 1])
def test_the_loss_of_training_is_the_mean_over_all_examples(framework: str, size: int) -> None:
    require_framework(framework)
    module = import_module(f"client.frameworks.small_{framework}")
    x, y = np.ones((size, 1), np.float32), np.arange(size, dtype=np.float32)[:, None]

    def data(self: Any, client: Client) -> Any:
        return x, y

    trainer = type("Sized", (module.Line,), {"data": data})(CLIENT)
    task = Task(client=CLIENT, config={"batch_size": BATCH, "learning_rate": 1e-12})
    _, examples, metrics = trainer.train({module.WEIGHT: np.zeros((1, 1), np.float32)}, task)
    assert (examples, metrics["loss"]) == (size, pytest.approx(float(np.mean(y**2))))


@pytest.mark.parametrize("size", [1, BATCH + 1])
@pytest.mark.parametrize("seen", [0, 1])
def test_a_network_of_scikit_learn_learns_from_a_single_class(size: int, seen: int) -> None:
    rows = np.flatnonzero(np.equal(Y, seen))[:size]
    trainer = _trainer("sklearn", X[rows], Y[rows])
    weights = trainer.init()
    task = Task(client=CLIENT, config={"batch_size": BATCH, "epochs": 5})
    trained, examples, _ = trainer.train({name: value.copy() for name, value in weights.items()}, task)
    assert examples == size
    assert trainer.validate(trained, task)[1]["loss"] < trainer.validate(weights, task)[1]["loss"]
