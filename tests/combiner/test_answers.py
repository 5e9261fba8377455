"""The answers of one client to one task: the first valid one counts."""

from __future__ import annotations

import pytest

from combiner.protocol import REDUCER, Combiner, decline, discarded, key, outcomes, plan, update, upload
from fedmq.errors import InvalidUpdate
from fedmq.runtime.effects import Ack
from fedmq_combiner.operations import Close, Fold
from support.cores import all_of, blob, events, one

NAN = InvalidUpdate("'w' holds NaN")


@pytest.fixture(autouse=True)
def opened(combiner: Combiner) -> None:
    """The plan of c1 and c2 is open."""
    combiner.open(plan())


def test_the_first_accepted_update_wins(combiner: Combiner) -> None:
    combiner.accept("c1", "a")
    same = combiner.receive(update("c1", "a"), "c1")
    assert discarded(same) == [("c1", "a duplicate: already accepted")]
    assert Ack((combiner.tag,)) in same
    other = combiner.receive(update("c1", "b"), "c1")
    assert discarded(other) == [("c1", "another update of this task was accepted before")]
    withdrawn = combiner.receive(decline(), "c1")
    assert discarded(withdrawn) == [("c1", "another update of this task was accepted before")]


def test_an_answer_waits_while_an_earlier_one_is_being_folded(combiner: Combiner) -> None:
    fold = one(combiner.receive(update("c1", "a"), "c1"), Fold)
    assert combiner.receive(update("c1", "b"), "c1") == []
    assert combiner.receive(update("c1", "a"), "c1") == []
    folded = combiner.folded(fold)
    assert outcomes(folded) == [("accepted", "c1")]
    assert discarded(folded) == [
        ("c1", "another update of this task was accepted before"),
        ("c1", "a duplicate: already accepted"),
    ]


def test_an_answer_that_waited_counts_if_the_one_before_is_invalid(combiner: Combiner) -> None:
    first = one(combiner.receive(update("c1", "a"), "c1"), Fold)
    tag = combiner.tag
    combiner.receive(update("c1", "b"), "c1")
    refused = combiner.failed(first, NAN)
    assert discarded(refused) == [("c1", "rejected ('w' holds NaN), another update of the task is looked at")]
    assert all_of(refused, Ack) == [Ack((tag,))]
    second = one(refused, Fold)
    assert second.blob == upload("c1", "b")
    assert outcomes(combiner.folded(second)) == [("accepted", "c1")]


def test_the_last_invalid_update_is_the_outcome(combiner: Combiner) -> None:
    first = one(combiner.receive(update("c1", "a"), "c1"), Fold)
    combiner.receive(update("c1", "b"), "c1")
    second = one(combiner.failed(first, NAN), Fold)
    assert outcomes(combiner.failed(second, NAN)) == [("rejected", "c1")]


def test_a_decline_that_waited_counts_if_the_update_before_is_invalid(combiner: Combiner) -> None:
    combiner.receive(decline(), "c2")
    first = one(combiner.receive(update("c1", "a"), "c1"), Fold)
    combiner.receive(decline("failed"), "c1")
    combiner.receive(update("c1", "b"), "c1")
    refused = combiner.failed(first, NAN)
    assert outcomes(refused) == [("failed", "c1")]
    assert [entry.outcome for entry in one(refused, Close).ledger.entries] == ["failed", "abstained"]
    assert discarded(refused)[-1] == ("c1", "late: the plan is closed")


def test_a_rejected_client_may_try_again(combiner: Combiner) -> None:
    combiner.failed(one(combiner.receive(update("c1", "a"), "c1"), Fold), NAN)
    assert outcomes(combiner.accept("c1", "b")) == [("accepted", "c1")]
    assert one(combiner.receive(decline(), "c2"), Close).ledger.entries[0].outcome == "accepted"


def test_updates_of_several_clients_are_folded_at_the_same_time_in_any_order(combiner: Combiner) -> None:
    first = one(combiner.receive(update("c1"), "c1"), Fold)
    second = one(combiner.receive(update("c2"), "c2"), Fold)
    assert outcomes(combiner.folded(second)) == [("accepted", "c2")]
    assert one(combiner.folded(first), Close).ledger.total_weight == 6


def test_an_update_of_a_plan_that_is_not_open_is_superseded(combiner: Combiner) -> None:
    received = combiner.receive(update("c1", which=key(7)), "c1")
    assert discarded(received) == [("c1", "superseded: no such plan is open here")]
    assert Ack((combiner.tag,)) in received


def test_an_update_that_starts_from_another_model_is_stale(combiner: Combiner) -> None:
    received = combiner.receive(update("c1", model="models/other"), "c1")
    assert discarded(received) == [("c1", "stale: it starts from model models/other, the plan's is models/m0")]


def test_a_stale_update_does_not_wait_behind_another(combiner: Combiner) -> None:
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    assert discarded(combiner.receive(update("c1", model="models/other"), "c1"))
    assert outcomes(combiner.failed(fold, NAN)) == [("rejected", "c1")]


def test_a_client_of_another_combiner_is_not_counted(combiner: Combiner) -> None:
    received = combiner.receive(update("c9"), "c9")
    assert discarded(received) == [("c9", "the client has no task in this plan")]


def test_a_blob_of_somebody_else_is_rejected_unread(combiner: Combiner) -> None:
    foreign = update("c1").model_copy(update={"blob": blob("updates/s/000001/c2-a")})
    received = combiner.receive(foreign, "c1")
    assert outcomes(received) == [("rejected", "c1")]
    assert not all_of(received, Fold)
    assert not all_of(received, Ack)


def test_a_blob_of_somebody_else_that_waited_is_rejected(combiner: Combiner) -> None:
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    combiner.receive(update("c1").model_copy(update={"blob": blob("models/m0")}), "c1")
    refused = combiner.failed(fold, NAN)
    assert outcomes(refused) == [("rejected", "c1")]
    assert not all_of(refused, Fold)


def test_a_blob_of_somebody_else_between_two_updates_is_discarded(combiner: Combiner) -> None:
    fold = one(combiner.receive(update("c1", "a"), "c1"), Fold)
    combiner.receive(update("c1").model_copy(update={"blob": blob("models/m0")}), "c1")
    combiner.receive(update("c1", "b"), "c1")
    refused = combiner.failed(fold, NAN)
    assert len(discarded(refused)) == 2
    assert outcomes(combiner.folded(one(refused, Fold))) == [("accepted", "c1")]


def test_an_answer_to_a_question_that_nobody_waits_for_changes_nothing(combiner: Combiner) -> None:
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    combiner.folded(fold)
    assert combiner.folded(fold) == []
    assert combiner.failed(fold, NAN) == []


def test_clients_may_answer_before_they_say_hello(combiner: Combiner) -> None:
    received = combiner.receive(decline(), "c1")
    assert [event.client for event in events(received, "client.joined")] == ["c1"]
    assert outcomes(received) == [("abstained", "c1")]


def test_the_reducer_cannot_answer_for_a_client(combiner: Combiner) -> None:
    assert discarded(combiner.receive(update("c1"), REDUCER)) == [(REDUCER, "the client has no task in this plan")]
