"""A client's message counts only for a task that the client has, and an update weighs no more than the policy allows."""

from __future__ import annotations

from typing import Any

import pytest

from combiner.protocol import REDUCER, Combiner, key, outcomes, plan, update, welcome
from fedmq.runtime.effects import Ack
from fedmq_combiner.operations import Fold, Open
from fedmq_schemas.messages import Plan, Progress
from support.cores import all_of, events, one


def open_with(combiner: Combiner, **changes: Any) -> None:
    message = Plan.model_validate(plan().model_dump() | changes)
    combiner.open(message)


# -- weights ------------------------------------------------------------------------------------------------------------

REMEDY = "the policy's max_weight: raise it if a client has that many examples"


@pytest.mark.parametrize(
    ("policy", "weight", "reason"),
    [
        ({"weighting": "equal"}, 2, "its weight 2 is over 1, the greatest weight with weighting = equal"),
        ({"weighting": "capped:5"}, 6, "its weight 6 is over 5, the greatest weight with weighting = capped:5"),
        ({}, 10_000_001, f"its weight 10000001 is over 10000000, {REMEDY}"),
        ({}, 2**53 - 1, f"its weight 9007199254740991 is over 10000000, {REMEDY}"),
        ({"max_weight": 100}, 101, f"its weight 101 is over 100, {REMEDY}"),
    ],
)
def test_an_update_that_weighs_more_than_the_policy_allows_is_rejected(
    combiner: Combiner, policy: dict[str, Any], weight: int, reason: str
) -> None:
    """It was folded: one client's model was the mean of all."""
    open_with(combiner, **policy)
    effects = combiner.receive(update("c1").model_copy(update={"weight": weight}), "c1")
    assert outcomes(effects) == [("rejected", "c1")] and not all_of(effects, Fold)
    assert [event.data["reason"] for event in events(effects, "update.rejected")] == [reason]


@pytest.mark.parametrize(
    ("policy", "weight"),
    [
        ({"weighting": "equal"}, 1),
        ({"weighting": "capped:5"}, 5),
        ({}, 10_000_000),
        ({"max_weight": 20_000_000}, 20_000_000),
        ({"weighting": "capped:20000000"}, 20_000_000),
    ],
)
def test_an_update_of_the_greatest_weight_is_folded(combiner: Combiner, policy: dict[str, Any], weight: int) -> None:
    open_with(combiner, **policy)
    fold = one(combiner.receive(update("c1").model_copy(update={"weight": weight}), "c1"), Fold)
    assert fold.weight == weight


# -- progress -----------------------------------------------------------------------------------------------------------


def progress(**changes: Any) -> Progress:
    return Progress(plan=key(**changes), fraction=0.5, metrics={"loss": 1.0})


def test_progress_of_a_client_without_the_task_is_not_published(combiner: Combiner) -> None:
    """A client published progress, with metrics, in any session."""
    combiner.open(plan())
    for claim, client in ((progress(), "c3"), (progress(session="other"), "c1"), (progress(attempt=2), "c1")):
        effects = combiner.receive(claim, client)
        assert not events(effects, "task.progress") and Ack((combiner.tag,)) in effects


def test_progress_is_published_while_the_plan_is_opened_again(combiner: Combiner) -> None:
    """A combiner that starts over gets its plans again, and the clients go on training meanwhile."""
    combiner.open(plan())
    combiner.reconnect()
    assert len(events(combiner.receive(progress(), "c1"), "task.progress")) == 1, "its plans are still to come"
    combiner.receive(welcome(), REDUCER)
    assert not events(combiner.receive(progress(), "c1"), "task.progress"), "all plans have come"
    opening = one(combiner.receive(plan(), REDUCER), Open)
    assert len(events(combiner.receive(progress(), "c1"), "task.progress")) == 1
    assert not events(combiner.receive(progress(), "c3"), "task.progress")
    combiner.opened(opening)
    assert len(events(combiner.receive(progress(), "c1"), "task.progress")) == 1
