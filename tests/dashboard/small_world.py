"""A real session in memory with troubles in it: five clients, of which one fails once and one gives NaN once."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords
from fedmq_sandbox import Sandbox
from support.packages import write_package

ROUNDS = 4
FAILING, FAILED_ROUND = "client3", 2
REJECTED, REJECTED_ROUND = "client4", 3

TRAINER = f"""
import numpy as np

class Trainer:
    test_set = True

    def __init__(self, client):
        self.client = client

    def init(self):
        return {{"w": np.zeros(3)}}

    def train(self, weights, task):
        if (self.client.name, task.round) == ({FAILING!r}, {FAILED_ROUND}):
            raise RuntimeError("the scanner is off <b>today</b>")
        step = np.nan if (self.client.name, task.round) == ({REJECTED!r}, {REJECTED_ROUND}) else self.client.ordinal + 1
        return {{"w": weights["w"] + step}}, 10 * (self.client.ordinal + 1), {{"loss": 1.0 / task.round}}

    def validate(self, weights, task):
        accuracy = 0.5 + 0.1 * task.round / task.rounds + 0.01 * self.client.ordinal
        return 10, {{"accuracy": accuracy, "loss": 1 - accuracy}}
"""


def train_into(state_dir: Path, package: Path, rounds: int = ROUNDS) -> None:
    """Runs the whole session; its records are in `state_dir`."""
    with Sandbox(package, workers=0, state_dir=state_dir, name="troubled", rounds=rounds, random_seed=1) as box:
        assert box.run()["state"] == "finished"


@functools.cache
def small_world() -> Records:
    """The session's records; only read them."""
    folder = Path(tempfile.mkdtemp(prefix="fedmq-dashboard-"))
    train_into(folder / "state", write_package(folder / "package", TRAINER))
    return SqliteRecords(folder / "state" / "records.db")
