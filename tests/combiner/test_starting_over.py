"""A bug costs a combiner its open plans, as a lost connection does: they start over at the next presence beat."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from combiner.protocol import REDUCER, Combiner, key, outcomes, plan, update, void, welcome
from fedmq.errors import Refused
from fedmq.runtime.effects import Ack, Drained, Resubscribe, StartTimer, Stopping
from fedmq_combiner.members.presence import BEAT
from fedmq_combiner.operations import Close, Drop, Fold, Open, Save
from fedmq_schemas.messages import ClientPresence, CombinerHello, Partial
from support.cores import all_of, bodies, events, one


class Bug(Exception):
    pass


@pytest.fixture
def broken(combiner: Combiner) -> Combiner:
    """A combiner whose course of a plan has met a bug, when the last update was folded."""
    combiner.open(plan())
    combiner.accept("c1")
    fold = one(combiner.receive(update("c2"), "c2"), Fold)
    with patch("fedmq_combiner.course.ledger_of", side_effect=Bug), pytest.raises(Bug):
        combiner.folded(fold)
    combiner.outcomes_of.clear()
    return combiner


def test_a_bug_is_raised_and_nothing_is_done_until_the_next_beat(broken: Combiner) -> None:
    assert broken.receive(ClientPresence(), "c3") == []
    assert broken.receive(plan(key(2)), REDUCER) == []
    assert broken.fire("presence:changes") == []
    assert broken.unsettled == [update("c1"), update("c2"), ClientPresence(), plan(key(2))]


def test_at_the_next_beat_all_deliveries_are_given_back_and_the_plan_starts_over(broken: Combiner) -> None:
    over = broken.fire(BEAT)
    assert isinstance(over[0], Resubscribe)
    assert one(over, Drop).plan == str(key())
    assert bodies(over, CombinerHello)
    assert StartTimer(BEAT, 10.0) in over

    broken.open(plan())
    broken.receive(welcome(), REDUCER)
    assert outcomes(broken.accept("c1")) == [("accepted", "c1")]
    assert one(broken.accept("c2"), Close).ledger.total_weight == 6


@pytest.mark.parametrize("step", ["partial_of", "publish_partial"])
def test_a_bug_after_the_partial_was_written_does_not_lose_it(combiner: Combiner, step: str) -> None:
    combiner.open(plan(None, "c1"))
    close = one(combiner.accept("c1"), Close)
    with patch(f"fedmq_combiner.course.{step}", side_effect=Bug), pytest.raises(Bug):
        combiner.closed(close)
    combiner.fire(BEAT)
    again = combiner.receive(plan(None, "c1"), REDUCER)
    if opening := all_of(again, Open):
        combiner.opened(opening[0])
        again = combiner.closed(one(combiner.accept("c1"), Close))
    assert [partial.total_weight for partial in bodies(again, Partial)] == [3]


def test_all_plans_start_over_also_those_that_met_no_bug(combiner: Combiner) -> None:
    combiner.open(plan(key(1, session="other"), "c9"))
    combiner.open(plan(None, "c1"))
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    with patch("fedmq_combiner.answers.ledger_entry", side_effect=Bug), pytest.raises(Bug):
        combiner.folded(fold)
    assert [drop.plan for drop in all_of(combiner.fire(BEAT), Drop)] == ["other/1/train/1/0", "s/1/train/1/0"]
    assert combiner.decisions.open_plans == 0


def test_a_checkpoint_that_is_refused_costs_nothing_and_is_tried_again_later(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1", "c2", timeout=3_600.0))
    combiner.accept("c1")
    save = one(combiner.fire(f"save:{key()}"), Save)
    refused = combiner.failed(save, Refused("the store accepts no more"))
    [event] = events(refused, "actor.error")
    assert "checkpoint is refused" in event.data["reason"] and "the store accepts no more" in event.data["reason"]
    assert not all_of(refused, Ack), "its messages stay held"
    save = one(combiner.fire(f"save:{key()}"), Save)
    assert all_of(combiner.done(save), Ack)
    combiner.closed(one(combiner.accept("c2"), Close))


def test_a_partial_that_is_refused_voids_its_plan_alone(combiner: Combiner) -> None:
    combiner.open(plan(key(1, session="other"), "c9"))
    combiner.open(plan(None, "c1"))
    close = one(combiner.accept("c1"), Close)
    refused = combiner.failed(close, Refused("the store accepts no more"))
    assert "partial is refused" in events(refused, "actor.error")[0].data["reason"]
    assert [drop.plan for drop in all_of(refused, Drop)] == ["s/1/train/1/0"]
    assert all_of(refused, Ack) and combiner.decisions.open_plans == 1


def test_an_answer_of_a_performer_that_comes_after_the_bug_changes_nothing(combiner: Combiner) -> None:
    combiner.open(plan())
    late = one(combiner.receive(update("c1"), "c1"), Fold)
    fold = one(combiner.receive(update("c2"), "c2"), Fold)
    with patch("fedmq_combiner.answers.ledger_entry", side_effect=Bug), pytest.raises(Bug):
        combiner.folded(fold)
    assert combiner.folded(late) == []
    combiner.fire(BEAT)


def test_a_bug_in_a_reaction_ends_as_one_in_a_routine_does(combiner: Combiner) -> None:
    combiner.open(plan())
    with patch("fedmq_combiner.course.void", side_effect=Bug), pytest.raises(Bug):
        combiner.receive(void(key()), REDUCER)
    assert isinstance(combiner.fire(BEAT)[0], Resubscribe)


def test_a_bug_in_the_beat_itself_costs_two_periods(combiner: Combiner) -> None:
    with patch("fedmq_combiner.members.presence.Presence.fired", side_effect=Bug), pytest.raises(Bug):
        combiner.fire(BEAT)
    assert combiner.receive(ClientPresence(), "c1") == []
    combiner.at += 20.0
    assert isinstance(combiner.receive(ClientPresence(), "c1")[0], Resubscribe)


def test_a_lost_connection_starts_over_at_once(broken: Combiner) -> None:
    lost = broken.reconnect()
    assert not all_of(lost, Resubscribe)
    assert bodies(lost, CombinerHello)


def test_a_combiner_with_a_bug_can_be_stopped(broken: Combiner) -> None:
    assert broken.handle(Stopping())[-1] == Drained()


def test_what_a_course_waits_for_can_be_read(combiner: Combiner) -> None:
    combiner.receive(plan(), REDUCER)
    [line] = combiner.decisions.waits()
    assert line.startswith("s/1/train/1/0: train (course.py:")
    assert line.endswith("waits for the answer to Open")
    combiner.opened(one(combiner.receive(plan(key(2)), REDUCER), Open))
    assert [line.split(" waits for ")[1] for line in combiner.decisions.waits()] == ["the answer to Open", "Ready"]
