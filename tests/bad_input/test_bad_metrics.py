"""Metrics that can't be averaged are recorded, and never spoil an average or a round."""

from __future__ import annotations

from pathlib import Path

from bad_input.alliance import GOOD, TRAINER, Alliance, assert_unharmed
from fedmq_schemas import records as tables

ODD = TRAINER.replace(
    '{"loss": 0.5}', '{"loss": 0.5, "nan": float("nan"), "word": "hot", "list": [1, 2], "flag": True}'
).replace('{"loss": 0.25}', '{"loss": 0.25, "nan": float("inf"), "word": "cold"}')

HUGE = TRAINER.replace('{"loss": 0.5}', '{"loss": 0.5, "history": list(range(100_000))}').replace(
    '{"loss": 0.25}', '{"loss": 0.25, "history": "x" * 100_000}'
)


def test_nan_is_recorded_as_null_and_with_what_is_no_scalar_never_averaged(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, trainer=ODD, on_task=None)
    assert_unharmed(alliance, alliance.run())
    accepted = alliance.events("update.accepted", client=GOOD[0])[0]["data"]
    metrics = accepted["metrics"]
    assert accepted["notes"] == ["metric 'nan' of train is nan and is in no mean"]
    assert metrics["nan"] is None and metrics["word"] == "hot" and metrics["list"] == [1, 2] and metrics["flag"] is True
    committed = alliance.records.find(tables.ROUNDS, order="round")[0]
    assert set(committed["metrics"]) == {"loss"} and committed["metrics"]["loss"]["n"] == 2
    validation = alliance.records.find(tables.VALIDATIONS, {"client": GOOD[0]})[0]
    assert validation["metrics"] == {"loss": 0.25, "nan": None, "word": "cold"}
    validated = alliance.events("model.validated", client=GOOD[0])[0]["data"]
    assert validated["notes"] == ["metric 'nan' of validate is inf and is in no mean"]
    models = alliance.records.find(tables.MODELS, {"session": "s1"})
    assert all(set(model["metrics"]) == {"loss"} for model in models)


def test_metrics_that_are_too_large_cost_only_themselves(tmp_path: Path) -> None:
    """A trainer that returns its whole history as a metric keeps its update, its scores and its other metrics."""
    alliance = Alliance(tmp_path, trainer=HUGE, on_task=None)
    assert_unharmed(alliance, alliance.run())
    accepted = alliance.events("update.accepted", client=GOOD[0])[0]["data"]
    assert accepted["metrics"] == {"loss": 0.5}
    assert [note[:45] for note in accepted["notes"]] == ["metric 'history' (100,000 values) is not kept"]
    validated = alliance.events("model.validated", client=GOOD[0])[0]["data"]
    assert validated["metrics"] == {"loss": 0.25}
    assert [note[:49] for note in validated["notes"]] == ["metric 'history' (100,000 characters) is not kept"]


def test_a_validation_that_fails_costs_no_training_and_its_traceback_is_recorded(tmp_path: Path) -> None:
    trainer = TRAINER.replace('{"loss": 0.25}', '{"loss": 1 / 0}')
    alliance = Alliance(tmp_path, trainer=trainer, on_task=None)
    assert_unharmed(alliance, alliance.run())
    validated = alliance.events("model.validated", client=GOOD[0])[0]["data"]
    assert (validated["metrics"], validated["reason"]) == ({}, "validate raised ZeroDivisionError: division by zero")
    assert "in validate" in validated["traceback"]
    accepted = alliance.events("update.accepted", client=GOOD[0])[0]["data"]
    assert accepted["notes"] == ["validate raised ZeroDivisionError: division by zero"]
