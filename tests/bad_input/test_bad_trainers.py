"""Trainers that misbehave, each in the same alliance with two good ones, in real worker processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedmq import tensors
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.records import Ledger

TRAINER = """
import os, signal, time
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(3, np.float32)}

    def train(self, weights, task):
        new, number = {"w": weights["w"] + 1}, self.client.ordinal
        if number == 2:
            raise ValueError("the scanner is off")
        if number == 3:
            time.sleep(3600)
        if number == 4:
            return "rubbish"
        if number == 5:
            os._exit(7)
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 7:
            return None
        if number == 8:
            return {"w": new["w"][:2]}, 1, {}
        if number == 9:
            return {"w": new["w"] * np.nan}, 1, {}
        if number == 10:
            return new, -1, {}
        if number == 11:
            raise SystemExit("I have had enough")
        return new, 10, {}
"""

pytestmark = pytest.mark.real  # worker processes, and the deadline of a round on the real clock

RAISES, HANGS, RUBBISH, EXITS, KILLED, ABSTAINS, SHAPE, NAN, EXAMPLES, LEAVES = range(2, 12)

Told = dict[str, tuple[str, str, str]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One session with all of them: client → outcome, reason and traceback."""
    folder = tmp_path_factory.mktemp("trainers")
    (folder / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
    (folder / "trainer.py").write_text(TRAINER)
    tracebacks: dict[str, str] = {}

    def on_event(_: Envelope, event: Event) -> None:
        if event.name == "update.failed" and event.client is not None:
            tracebacks[event.client] = event.data.get("traceback", "")

    policy = {"rounds": 1, "clients_required": 2, "timeout": 20, "validation": "none", "random_seed": 1}
    options: dict[str, Any] = {"clients": 12, "workers": 3, "evaluator": False, "state_dir": folder / "state"}
    with Sandbox(folder, policy=policy, on_event=on_event, **options) as sandbox:
        session = sandbox.run()
        assert session["state"] == "finished", session["reason"]
        committed = sandbox.records.find(tables.ROUNDS)[0]
        ledger = Ledger.model_validate_json(sandbox.blobs.get(committed["ledger"]["key"]))
        model = tensors.decode(sandbox.blobs.get(committed["model"]["key"]))[0]
    assert np.array_equal(model["w"], np.ones(3, np.float32))
    return {entry.client: (entry.outcome, entry.reason, tracebacks.get(entry.client, "")) for entry in ledger.entries}


def client(ordinal: int) -> str:
    return f"client{ordinal + 1}"


def test_the_good_ones_are_in_the_model_and_nobody_else(told: Told) -> None:
    accepted = {name for name, (outcome, _, _) in told.items() if outcome == "accepted"}
    assert accepted == {client(0), client(1)} and len(told) == 12


def test_a_trainer_that_raises_fails_with_the_users_own_traceback(told: Told) -> None:
    outcome, reason, traceback = told[client(RAISES)]
    assert (outcome, reason) == ("failed", "train raised ValueError: the scanner is off")
    assert "trainer.py" in traceback and "the scanner is off" in traceback


def test_a_trainer_that_hangs_is_absent_at_the_deadline(told: Told) -> None:
    """Its worker has some seconds longer to end by itself, so the combiner's deadline is first."""
    assert told[client(HANGS)][:2] == ("absent", "no answer by the deadline")


def test_a_trainer_that_returns_rubbish_is_told_what_to_return(told: Told) -> None:
    outcome, reason, _ = told[client(RUBBISH)]
    assert outcome == "failed" and "train returned a str: return weights, examples, metrics or None" in reason


def test_a_trainer_that_ends_its_process_costs_its_own_update(told: Told) -> None:
    outcome, reason, _ = told[client(EXITS)]
    assert (outcome, reason) == ("failed", "the worker process ended with exit code 7")


def test_a_trainer_that_is_killed_costs_its_own_update(told: Told) -> None:
    outcome, reason, _ = told[client(KILLED)]
    assert (outcome, reason) == ("failed", "the worker process was killed by SIGKILL (out of memory?)")


def test_a_trainer_that_abstains_abstains(told: Told) -> None:
    assert told[client(ABSTAINS)][0] == "abstained"


def test_weights_of_another_shape_fail_with_the_first_wrong_ones(told: Told) -> None:
    outcome, reason, _ = told[client(SHAPE)]
    assert outcome == "failed" and "w has shape (2,) and not (3,)" in reason


def test_weights_that_are_nan_are_rejected_by_the_combiner(told: Told) -> None:
    outcome, reason, _ = told[client(NAN)]
    assert outcome == "rejected" and "tensor 'w' holds NaN" in reason


def test_a_number_of_examples_that_is_none_fails(told: Told) -> None:
    outcome, reason, _ = told[client(EXAMPLES)]
    assert outcome == "failed" and "train returned -1 as examples" in reason


def test_a_trainer_that_leaves_costs_its_own_update(told: Told) -> None:
    outcome, reason, _ = told[client(LEAVES)]
    assert outcome == "failed" and "SystemExit: I have had enough" in reason
