"""Metrics that can't be averaged are recorded, and never spoil an average or a round."""

from __future__ import annotations

import math
from pathlib import Path

from bad_input.alliance import GOOD, POLICY, TRAINER, Alliance, assert_unharmed
from fedmq_schemas import records as tables

ODD = TRAINER.replace(
    '{"loss": 0.5}', '{"loss": 0.5, "nan": float("nan"), "word": "hot", "list": [1, 2], "flag": True}'
).replace('{"loss": 0.25}', '{"loss": 0.25, "nan": float("inf"), "word": "cold"}')

HUGE = TRAINER.replace('{"loss": 0.5}', '{"loss": 0.5, "history": list(range(100_000))}').replace(
    '{"loss": 0.25}', '{"loss": 0.25, "history": "x" * 100_000}'
)


def test_nan_and_what_is_no_scalar_are_recorded_and_never_averaged(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, trainer=ODD, on_task=None)
    assert_unharmed(alliance, alliance.run())
    told = alliance.events("update.accepted", client=GOOD[0])[0]["data"]["metrics"]
    assert math.isnan(told["nan"]) and told["word"] == "hot" and told["list"] == [1, 2] and told["flag"] is True
    committed = alliance.records.find(tables.ROUNDS, order="round")[0]
    assert set(committed["metrics"]) == {"loss"} and committed["metrics"]["loss"]["n"] == 2
    validation = alliance.records.find(tables.VALIDATIONS, {"client": GOOD[0]})[0]
    assert math.isinf(validation["metrics"]["nan"])
    models = alliance.records.find(tables.MODELS, {"session": "s1"})
    assert all(set(model["metrics"]) == {"loss"} for model in models)


def test_metrics_that_no_message_can_hold_fail_the_task_with_a_reason(tmp_path: Path) -> None:
    """A trainer that returns its whole history as a metric loses its update, and everybody is told why."""
    alliance = Alliance(tmp_path, trainer=HUGE, on_task=None)
    session = alliance.run(POLICY.model_copy(update={"retries": 0}))
    assert session["state"] == "failed" and session["reason"] == "round 1 got 0 updates of 2 in 1 attempt"
    reasons = alliance.reasons("update.failed")
    assert len(reasons) == 2 and all("over the limit of 65536" in reason for reason in reasons)
    told = alliance.events("model.validated", client=GOOD[0])[0]["data"]
    assert told["metrics"] == {} and "over the limit" in told["reason"]
