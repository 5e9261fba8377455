"""What fails beside the arrays of a Flower client costs only itself. Needs no Flower."""

from pathlib import Path

import numpy as np

from client.packages.commanding import run
from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job

CLIENT = """
class Odd:
    def fit(self, parameters, config):
        return parameters, 10, {"hash": b"x", "loss": 0.5}
    def evaluate(self, parameters, config):
        raise ValueError("no labels")
"""


def test_bytes_among_the_metrics_and_an_evaluation_that_raises_cost_no_update(tmp_path: Path) -> None:
    (tmp_path / "fedn.yaml").write_text("trainer: flower:client_app.py:Odd")
    (tmp_path / "client_app.py").write_text(CLIENT)
    model = tensors.encode({"0": np.ones(2, np.float32)})
    trained, [validated] = run(Job("j", Client("c"), tmp_path, "train", model=model, validate=True))
    assert (trained.outcome, trained.examples, trained.metrics) == ("done", 10, {"loss": 0.5}), trained
    assert trained.notes == (
        "validate raised ValueError: no labels",
        "metric 'hash' is not kept: it is a bytes; send numbers, strings or lists",
    )
    assert validated.reason == trained.notes[0]
