"""Makes the records of the decisions about a session. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import Now
from fedmq.value import value
from fedmq_reducer.operations import Aggregate, Aggregated, ChangeSession, Recorded
from fedmq_reducer.sessions.attempt import Attempt
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session, Window
from fedmq_schemas.keys import model_id
from fedmq_schemas.records import AttemptRecord, RoundRecord, SessionChange, SessionRecord, WindowRecord


@value
class RecordWindow(Recorded):
    """Records whom a session has requested to validate a model, before the plans are published."""

    record: WindowRecord
    term: int


def session_record(session: Session, now: Now) -> SessionRecord:
    """Returns the record of a session that is queued."""
    return SessionRecord(
        session=session.name,
        name=session.policy.name,
        state=session.stage.recorded,
        policy=session.policy.model_dump(mode="json"),
        seed=session.policy.seed,
        random_seed=session.random_seed,
        position=session.position,
        created_at=now.wall,
    )


def record_standing(context: ReducerContext, session: Session) -> None:
    """Records the session's state, what it waits for and until when, unless that is recorded already."""
    standing = session.standing
    change = SessionChange(state=session.stage.recorded, waiting=standing.waiting, waiting_until=standing.waiting_until)
    if change != standing.recorded:
        standing.recorded = change
        context.emit(ChangeSession(session.name, change, context.term))


def attempt_record(session: Session, attempt: Attempt, term: int) -> AttemptRecord:
    """Returns the record of a draw, and of the parts that were voided since."""
    lineage = session.lineage
    return AttemptRecord(
        session=session.name,
        round=session.round,
        attempt=attempt.number,
        model=session.model,
        optimizer=lineage.optimizer,
        exponents=lineage.exponents,
        plans=tuple(part.record() for part in attempt.parts),
        epoch=term,
        created_at=attempt.created_at,
    )


def window_record(session: Session, number: int, window: Window) -> WindowRecord:
    """Returns the record of the requests to validate the model of round `number`."""
    return WindowRecord(
        session=session.name,
        round=number,
        model=model_id(window.model.key),
        requests=tuple(window.requests),
        closes_at=window.closes_at,
        absent=tuple(sorted(window.absent)),
    )


def round_record(session: Session, request: Aggregate, result: Aggregated, term: int, now: Now) -> RoundRecord:
    """Returns the record of a round: the commit point."""
    return RoundRecord(
        session=session.name,
        round=session.round,
        attempt=request.attempt,
        model=result.model,
        parent=request.model,
        base=session.lineage.base,
        optimizer=result.optimizer,
        ledger=result.ledger,
        total_weight=result.total_weight,
        counts=dict(result.counts),
        metrics=dict(result.metrics),
        exponents=result.exponents,
        bytes=dict(result.bytes),
        seconds=now.seconds - session.began_at,
        resumed_after=0.0 if session.resumed_at is None else session.resumed_at - session.began_at,
        epoch=term,
        committed_at=now.wall,
    )
