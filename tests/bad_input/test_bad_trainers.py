"""Trainers that misbehave, each in the same alliance with two good ones, in real worker processes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from fedmq import tensors
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.records import Ledger
from support.packages import write_package

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

Outcomes = dict[str, tuple[str, str, str]]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """One session with all of them: client → outcome, reason and traceback."""
    folder = write_package(tmp_path_factory.mktemp("trainers"), TRAINER)
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


def test_the_good_ones_are_in_the_model_and_nobody_else(reported: Outcomes) -> None:
    accepted = {name for name, (outcome, _, _) in reported.items() if outcome == "accepted"}
    assert accepted == {client(0), client(1)} and len(reported) == 12


def test_a_trainer_that_raises_fails_with_the_users_own_traceback(reported: Outcomes) -> None:
    outcome, reason, traceback = reported[client(RAISES)]
    assert (outcome, reason) == ("failed", "train raised ValueError: the scanner is off")
    assert "trainer.py" in traceback and "the scanner is off" in traceback


@pytest.mark.parametrize(
    ("ordinal", "expected", "reason"),
    [
        # The worker has some seconds longer to end by itself, so the combiner's deadline is first.
        pytest.param(
            HANGS,
            "absent",
            r"no answer in [\d.]+ s; it was in trainer\.py:\d+ in train; if trainers are only slow, raise `timeout`",
            id="hangs",
        ),
        pytest.param(
            RUBBISH,
            "failed",
            ".*train returned a str: return weights, examples, metrics or None.*",
            id="rubbish",
        ),
        pytest.param(
            EXITS,
            "failed",
            r"the worker process ended with exit code 7 in train of trainer\.py: find what ends the process there, .*",
            id="ends its process",
        ),
        pytest.param(
            KILLED,
            "failed",
            r"the worker process was killed by SIGKILL \(out of memory\?\) in train of trainer\.py: use less memory .*",
            id="is killed",
        ),
        pytest.param(ABSTAINS, "abstained", ".*", id="abstains"),
        pytest.param(SHAPE, "failed", r".*w has shape \(2,\) and not \(3,\).*", id="another shape"),
        pytest.param(NAN, "rejected", ".*tensor 'w' holds NaN.*", id="NaN"),
        pytest.param(EXAMPLES, "failed", ".*train returned -1 as examples.*", id="no number of examples"),
        pytest.param(LEAVES, "failed", ".*SystemExit: I have had enough.*", id="leaves"),
    ],
)
def test_a_trainer_that_misbehaves_costs_its_own_update(
    reported: Outcomes, ordinal: int, expected: str, reason: str
) -> None:
    found = reported[client(ordinal)]
    assert found[0] == expected and re.fullmatch(reason, found[1], re.DOTALL)
