"""The reason of a session, or of an attempt, with too few updates names the causes that the partials state."""

from __future__ import annotations

from fedmq_schemas.messages import OutcomeReason
from support.cores import events

from .conftest import StartSession
from .driver import SessionDriver, partial
from .records import ends


def test_a_session_without_enough_updates_states_their_reasons_the_most_frequent_one_first(start: StartSession) -> None:
    clients = {"k1": ["c1", "c2", "c3"], "k2": ["c4", "c5"]}
    session = start(clients, rounds=2, clients_required=2, retries=0)
    session.plan()
    first = [OutcomeReason(outcome="absent", reason="no answer in 6 s; it was in trainer.py:18 in train", count=1)]
    second = [
        OutcomeReason(outcome="failed", reason="train raised KeyError: 'epochs'", count=1),
        OutcomeReason(outcome="absent", reason="no answer in 6 s; it was in trainer.py:19 in train", count=1),
    ]
    failed = [OutcomeReason(outcome="failed", reason="train raised KeyError: 'epochs'", count=2)]
    session.receive(partial(0, accepted=0, reasons=[*failed, *first]), "k1")
    effects = session.receive(partial(1, accepted=0, reasons=second), "k2")
    assert ends(effects) == [
        (
            "failed",
            "round 1 got 0 updates of 2 in 1 attempt: 3 of 5 clients failed: train raised KeyError: 'epochs'; "
            "2 of 5 clients were absent: no answer in 6 s; it was in trainer.py:18 in train",
        )
    ]


def test_at_most_two_reasons_of_bounded_length_are_stated_also_for_an_attempt_that_is_retried(
    session: SessionDriver,
) -> None:
    session.plan()
    reasons = [OutcomeReason(outcome="failed", reason=letter * 300, count=1) for letter in "abc"]
    session.receive(partial(0, accepted=0, reasons=reasons), "k1")
    effects = session.receive(partial(1, accepted=0), "k2")
    [event] = events(effects, "round.retried")
    assert event.data["reason"] == (
        f"round 1 got 0 updates of 2: 1 of 2 clients failed: {'a' * 198} …; 1 of 2 clients failed: {'b' * 198} …"
    )


def test_the_outcomes_of_a_combiner_that_states_no_reasons_are_counted(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"]}, rounds=1, clients_required=2, retries=0)
    session.plan()
    effects = session.receive(partial(0, accepted=0, counts={"accepted": 1, "abstained": 1, "failed": 0}), "k1")
    assert ends(effects) == [
        ("failed", "round 1 got 1 updates of 2 in 1 attempt: 1 of 2 clients abstained"),
    ]
