"""The record of an attempt keeps the time of its draw, however often it is written again."""

from __future__ import annotations

from fedmq.effects import Now
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.documents import attempt_document
from fedmq_reducer.planning import Desk
from fedmq_reducer.rounds import Rounds
from fedmq_reducer.session import Attempt, PlannedPart, Session, State
from fedmq_schemas.messages import BlobRef, PlanKey
from fedmq_schemas.policy import Policy
from fedmq_schemas.topology import Topology

DRAWN = 1_000.0


def _running() -> Session:
    session = Session("s", Policy(), 0, 1, state=State.RUNNING, attempts=1)
    session.model = BlobRef(key="models/m", size=1, sha256="0" * 64)
    part = PlannedPart(PlanKey(session="s", round=1), "combiner1", ("client1",))
    session.attempt = Attempt(1, [part], DRAWN)
    return session


def test_voiding_a_plan_keeps_the_time_of_the_draw() -> None:
    session, rounds = _running(), Rounds(Desk(Assignment(Topology("a"), presence=10.0)))
    effects = rounds.overdue(session, Now(50.0, DRAWN + 500.0))
    document = next(effect.document for effect in effects if hasattr(effect, "document"))
    assert document["created_at"] == DRAWN and document["plans"][0]["voided"]


def test_whoever_takes_over_keeps_it_too() -> None:
    session, rounds = _running(), Rounds(Desk(Assignment(Topology("a"), presence=10.0)))
    rounds.adopt_attempt(session, attempt_document(session, 1))
    assert session.attempt is not None and session.attempt.created_at == DRAWN
