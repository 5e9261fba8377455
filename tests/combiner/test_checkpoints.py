"""Checkpoints: messages are acknowledged before the plan closes, once a sum that contains them is durable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from combiner.protocol import REDUCER, Combiner, decline, discarded, key, outcomes, plan, update, void
from fedmq.errors import InvalidUpdate
from fedmq.runtime.effects import Ack, StartTimer
from fedmq_combiner.operations import Close, Fold, Save
from fedmq_schemas.messages import ClientHello, TaskMessage
from support.cores import all_of, bodies, one

SAVE = f"save:{key()}"


@pytest.fixture
def small() -> Iterator[Combiner]:
    """A combiner that holds at most two messages, with a plan for c1 to c4."""
    made = Combiner(hold_at_most=2)
    made.register()
    made.open(plan(None, "c1", "c2", "c3", "c4"))
    yield made
    made.conclude()


def test_a_checkpoint_is_written_when_many_messages_are_held(small: Combiner) -> None:
    assert not all_of(small.accept("c1"), Save)
    first = small.tag
    save = one(small.accept("c2"), Save)
    assert [entry.client for entry in save.entries] == ["c1", "c2"]
    assert small.done(save)[0] == Ack((first, small.tag))
    assert small.unsettled == []


def test_a_checkpoint_is_written_ten_minutes_after_the_first_held_message(combiner: Combiner) -> None:
    combiner.open(plan(timeout=3_600.0))
    assert StartTimer(SAVE, 600.0) in combiner.accept("c1")
    save = one(combiner.fire(SAVE), Save)
    assert [entry.client for entry in save.entries] == ["c1"]
    assert combiner.done(save) == [Ack((combiner.tag,))]
    assert StartTimer(SAVE, 600.0) in combiner.receive(decline(), "c2")


def test_the_ten_minutes_are_not_started_again_by_later_messages(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1", "c2", "c3", timeout=3_600.0))
    combiner.accept("c1")
    assert not all_of(combiner.accept("c2"), StartTimer)


def test_a_checkpoint_waits_until_nothing_is_being_folded(small: Combiner) -> None:
    slow = one(small.receive(update("c3"), "c3"), Fold)
    small.accept("c1")
    assert not all_of(small.accept("c2"), Save)
    save = one(small.folded(slow), Save)
    assert [entry.client for entry in save.entries] == ["c1", "c2", "c3"]
    small.done(save)


def test_a_checkpoint_that_is_due_waits_until_nothing_is_being_folded(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1", "c2", "c3", timeout=3_600.0))
    combiner.accept("c1")
    slow = one(combiner.receive(update("c2"), "c2"), Fold)
    assert not all_of(combiner.fire(SAVE), Save)
    save = one(combiner.folded(slow), Save)
    assert [entry.client for entry in save.entries] == ["c1", "c2"]


def test_answers_wait_while_a_checkpoint_is_written(small: Combiner) -> None:
    small.accept("c1")
    save = one(small.accept("c2"), Save)
    assert not all_of(small.receive(update("c3"), "c3"), Fold)
    assert not outcomes(small.receive(decline(), "c4"))
    saved = small.done(save)
    assert one(saved, Fold).client == "c3"
    assert outcomes(saved) == [("abstained", "c4")]


def test_an_answer_behind_one_that_causes_a_checkpoint_waits_for_it(small: Combiner) -> None:
    fold = one(small.receive(update("c1", "a"), "c1"), Fold)
    small.receive(decline(), "c1")
    small.receive(update("c1", "b"), "c1")
    small.receive(decline(), "c2")
    refused = small.failed(fold, InvalidUpdate("'w' holds NaN"))
    assert outcomes(refused) == [("abstained", "c1")]
    assert not all_of(refused, Fold)
    saved = small.done(one(refused, Save))
    assert outcomes(small.folded(one(saved, Fold))) == [("accepted", "c1")]


def test_the_plan_closes_after_the_checkpoint_if_the_deadline_passes_meanwhile(small: Combiner) -> None:
    small.accept("c1")
    save = one(small.accept("c2"), Save)
    assert small.fire(f"deadline:{key()}") == []
    saved = small.done(save)
    assert [entry.outcome for entry in one(saved, Close).ledger.entries] == ["accepted", "accepted", "absent", "absent"]


def test_no_checkpoint_is_written_of_a_plan_that_closes() -> None:
    small = Combiner(hold_at_most=2)
    small.register()
    small.open(plan())
    small.accept("c1")
    closing = small.accept("c2")
    assert [type(effect) for effect in closing if isinstance(effect, Save | Close)] == [Close]
    small.conclude()


def test_what_was_saved_is_acknowledged_once_and_the_partial_contains_it(small: Combiner) -> None:
    small.accept("c1")
    small.done(one(small.accept("c2"), Save))
    small.accept("c3")
    tag = small.tag
    closing = small.fire(f"deadline:{key()}")
    close = one(closing, Close)
    assert [entry.outcome for entry in close.ledger.entries] == ["accepted", "accepted", "accepted", "absent"]
    assert one(small.closed(close), Ack) == Ack((tag,))


def test_a_client_that_says_hello_during_a_checkpoint_gets_its_task(small: Combiner) -> None:
    small.accept("c1")
    save = one(small.accept("c2"), Save)
    assert [task.client for task in bodies(small.receive(ClientHello(), "c3"), TaskMessage)] == ["c3"]
    small.done(save)


def test_a_plan_that_is_voided_while_a_checkpoint_is_written_acknowledges_everything(small: Combiner) -> None:
    small.accept("c1")
    save = one(small.accept("c2"), Save)
    small.receive(update("c3"), "c3")
    voided = small.receive(void(key()), REDUCER)
    assert discarded(voided) == [("c3", "superseded: the plan is void")]
    assert small.unsettled == []
    assert small.done(save) == []


def test_a_save_timer_that_fires_with_nothing_to_save_does_nothing(small: Combiner) -> None:
    small.accept("c1")
    small.done(one(small.accept("c2"), Save))
    assert small.fire(SAVE) == []
    assert not all_of(small.accept("c3"), Save)


def test_a_save_timer_that_fires_while_a_checkpoint_is_written_does_nothing(small: Combiner) -> None:
    small.accept("c1")
    save = one(small.accept("c2"), Save)
    assert small.fire(SAVE) == []
    small.done(save)
    assert not all_of(small.accept("c3"), Save)
