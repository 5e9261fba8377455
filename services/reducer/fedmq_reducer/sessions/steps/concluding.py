"""The steps after a round: decides whether another one follows, and waits for the last validations. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import CancelTimer, Fired, StartTimer
from fedmq_reducer.operations import ChangeSession
from fedmq_reducer.selection import next_score, reason_to_stop
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Ended, MembersChanged, ValidationCounted
from fedmq_reducer.sessions.recording import record_standing
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_schemas.records import SessionChange


async def conclude(context: ReducerContext, session: Session) -> None:
    """Decides whether the session ends before its last round, and why (`finished_by`).

    The decision follows from records, so a reducer that takes over here decides the same. Raises Ended if somebody has
    stopped the session.
    """
    ending, stop = session.ending, session.policy.stop
    if ending.stopped:
        raise Ended(Stage.STOPPED, ending.stopped)
    if session.is_last:
        return
    if ending.after_round:
        raise Ended(Stage.STOPPED, "stopped after the round")
    if not session.is_scored:
        await _score(context, session)
    if ending.score is not None:
        ending.finished_by = reason_to_stop(ending.score, stop)
    if stop.max_time is not None and context.now.wall - (ending.started_at or context.now.wall) >= stop.max_time:
        ending.finished_by = ending.finished_by or f"{stop.max_time:g} s are over"


async def _score(context: ReducerContext, session: Session) -> None:
    """Records the newest model's score once all have answered or the time is over, before anything follows from it."""
    context.emit(*session.take_deferred())
    session.stage = Stage.SCORING
    windows.request(context, session)
    overdue = f"score:{session.name}"
    context.emit(StartTimer(overdue, session.policy.validation_timeout))
    is_overdue = False
    while windows.missing(context, session, session.round - 1):
        event = await context.first(ValidationCounted, MembersChanged, until=overdue)
        if is_overdue := isinstance(event, Fired):
            break
        if isinstance(event, ValidationCounted):
            windows.request(context, session)  # of the clients, once all evaluators have abstained
    windows.report_absent(context, session, session.round - 1, only_away=not is_overdue)
    policy, summary = session.policy, windows.summary(session, session.model)
    score = next_score(
        session.ending.score,
        session.round - 1,
        summary,
        policy.select,
        policy.stop.min_delta,
        bool(policy.tensors.local),
    )
    session.ending.score = score
    context.emit(CancelTimer(overdue), ChangeSession(session.name, SessionChange(score=score), context.term))


async def last_window(context: ReducerContext, session: Session) -> None:
    """Waits for the validations that are still missing, above all those of the last model."""
    context.emit(*session.take_deferred())
    session.stage = Stage.VALIDATING
    windows.request(context, session)
    overdue = f"window:{session.name}"
    if windows.is_any_missing(context, session):
        context.emit(StartTimer(overdue, session.policy.validation_timeout))
    record_standing(context, session)
    while windows.is_any_missing(context, session):
        if isinstance(await context.first(ValidationCounted, MembersChanged, until=overdue), Fired):
            break
    for number in session.validations.windows:
        windows.report_absent(context, session, number)
