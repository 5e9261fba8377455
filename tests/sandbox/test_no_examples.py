"""Clients that have no examples: their updates weigh nothing, and their scores are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from support.packages import write_package

TRAINER = """
import numpy as np

class Trainer:
    '''client1 has no examples, and says so; its update would be 1000 times too large.'''
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(1)}

    def train(self, weights, task):
        if task.config.get("all") or self.client.ordinal == 0:
            return {"w": np.full(1, 1000.0)}, 0, {"loss": 9.0}
        return {"w": weights["w"] + 1}, 10, {"loss": 1.0}

    def validate(self, weights, task):
        empty = self.client.ordinal == 0
        return (0, {"loss": float("nan")}) if empty else (10, {"loss": float(weights["w"][0])})
"""
REASON = "train used no examples"


def _sandbox(folder: Path, **options: Any) -> Sandbox:
    return Sandbox(
        write_package(folder / "package", TRAINER), clients=2, workers=0, rounds=1, random_seed=1, retries=0, **options
    )


@pytest.mark.parametrize("weighting", ["examples", "equal", "capped:5"])
def test_an_update_of_no_examples_is_not_in_the_mean_and_its_client_abstains(tmp_path: Path, weighting: str) -> None:
    with _sandbox(tmp_path, weighting=weighting) as box:
        assert box.run()["state"] == "finished"
        np.testing.assert_array_equal(box.weights()["w"], [1.0])
        [committed] = box.records.find(tables.ROUNDS)
        assert (committed["counts"]["accepted"], committed["counts"]["abstained"]) == (1, 1)
        ledger = json.loads(box.blobs.get(committed["ledger"]["key"]))
        outcomes = {
            entry["client"]: (entry["outcome"], entry["reason"], entry["weight"]) for entry in ledger["entries"]
        }
        assert outcomes["client1"] == ("abstained", REASON, 0)
        [event] = box.records.find(tables.EVENTS, {"name": "update.abstained"})
        assert (event["client"], event["data"]["reason"]) == ("client1", REASON)


def test_a_validation_of_no_examples_is_no_score_and_says_why(tmp_path: Path) -> None:
    with _sandbox(tmp_path) as box:
        box.run()
        found = {each["client"]: each for each in box.records.find(tables.VALIDATIONS, {"round": 1})}
        assert (found["client1"]["metrics"], found["client1"]["weight"]) == ({}, None)
        assert found["client1"]["reason"] == "validate used no examples"
        assert box.model()["metrics"]["loss"]["n"] == 1


def test_a_session_in_which_all_clients_abstain_ends_with_that_reason(tmp_path: Path) -> None:
    with _sandbox(tmp_path, train={"all": True}) as box:
        session = box.run()
        assert session["state"] == "failed"
        assert (
            session["reason"]
            == "round 1 got 0 updates of 1 in 1 attempt: 2 of 2 clients abstained: train used no examples"
        )
