"""Each kind of validation on real numbers: who scores which model; the models themselves are the same."""

from __future__ import annotations

from typing import Any

import pytest

from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from sandbox.commands import REGRESSION

ROUNDS = 4
MODES = ("with_training", "separate", "none")


def _run(validation: str, **policy: Any) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The trail by round, its first model with what the session found of it; the validations and the session."""
    given = {"random_seed": 3, "rounds": ROUNDS, "validation": validation, **policy}
    with Sandbox(REGRESSION, policy=given, clients=4, workers=0) as box:
        session = box.run()
        [summary] = box.records.find(tables.SUMMARIES)
        trail = {each["round"]: each for each in box.records.find(tables.MODELS)}
        trail[0] = {**trail[0], "metrics": summary["metrics"]}
        return trail, list(box.records.find(tables.VALIDATIONS)), session


def _scorers(validations: list[dict[str, Any]], number: int) -> set[str]:
    return {each["client"] for each in validations if each["round"] == number}


CLIENTS = {"client1", "client2", "client3", "client4"}


@pytest.mark.parametrize("validation", MODES)
def test_every_model_has_the_metrics_of_those_who_are_to_score_it(validation: str) -> None:
    trail, validations, session = _run(validation)
    assert session["state"] == "finished"
    for number in range(ROUNDS + 1):
        assert "test/mse" in trail[number]["metrics"]
        if validation == "none":
            assert "mse" not in trail[number]["metrics"]
        else:
            assert trail[number]["metrics"]["mse"]["n"] == 4
            assert _scorers(validations, number) >= CLIENTS


def test_who_is_not_drawn_validates_in_tasks_of_its_own_and_not_with_the_training_of_others() -> None:
    drawn = {"clients": {"fraction": 0.5}}
    _, separate, _ = _run("separate", **drawn)
    _, with_training, _ = _run("with_training", **drawn)
    for number in range(ROUNDS):
        assert _scorers(separate, number) >= CLIENTS
        assert len(_scorers(with_training, number) & CLIENTS) == 2
    assert _scorers(with_training, ROUNDS) >= CLIENTS


def test_how_models_are_validated_changes_no_byte_of_them() -> None:
    trails = [_run(validation)[0] for validation in MODES]
    hashes = [[trail[number]["ref"]["sha256"] for number in range(ROUNDS + 1)] for trail in trails]
    assert hashes[0] == hashes[1] == hashes[2]
    metrics = [[trail[number]["metrics"]["mse"] for number in range(ROUNDS + 1)] for trail in trails[:2]]
    assert metrics[0] == metrics[1]
