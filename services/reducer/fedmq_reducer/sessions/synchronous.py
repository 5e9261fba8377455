"""The course of a session: rounds, one after the other, from its first model to its last. Pure.

Every decision is recorded before it is published: the draw of an attempt before its plans, a partial before its
acknowledgement, the round before its events. So a reducer that takes over finds each decision in the records: `resuming`
restores the session from them, and this course continues where they end.
"""

from __future__ import annotations

from fedmq.errors import NotFound
from fedmq.runtime.effects import CancelTimer, Fired, PublishEvent, StartTimer
from fedmq_reducer.sessions.attempt import Attempt
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Ended, MembersChanged
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_reducer.sessions.steps.collecting import collect
from fedmq_reducer.sessions.steps.committing import commit
from fedmq_reducer.sessions.steps.concluding import conclude, last_window
from fedmq_reducer.sessions.steps.drawing import draw
from fedmq_reducer.sessions.steps.opening import open_seed

LONGEST_PAUSE = 60.0
"""Greatest number of seconds between the starts of two attempts of which the first has failed at once."""


async def synchronous(context: ReducerContext, session: Session) -> str:
    """Returns why the session is finished before its last round, or an empty text after its last round.

    Raises Ended if the session is stopped or fails, and FedMQError if an effect that it needs is refused.
    """
    if session.lineage.model is None:
        await open_seed(context, session)
    elif session.attempt is None:  # a reducer takes over between two rounds
        await conclude(context, session)
    while not session.is_last:
        await play(context, session)
        await conclude(context, session)
    await last_window(context, session)
    return session.ending.finished_by


async def play(context: ReducerContext, session: Session) -> None:
    """Makes the round's model, in the first attempt with enough updates. Raises Ended if no retry is left."""
    attempt = session.attempt or await draw(context, session)  # a reducer takes over while plans are open
    while reason := await _fault_of(context, session, attempt):
        _retry(context, session, attempt, reason)
        await _pause(context, session, attempt)
        attempt = await draw(context, session)


async def _fault_of(context: ReducerContext, session: Session, attempt: Attempt) -> str:
    """Collects the attempt's updates and commits the round. Returns why it made no model, or an empty text."""
    await collect(context, session, attempt)
    required = session.policy.clients_required
    if attempt.accepted() < required:
        return f"round {session.round} got {attempt.accepted()} updates of {required}"
    context.emit(CancelTimer(f"round:{session.name}"))
    try:
        await commit(context, session, attempt)
    except NotFound as error:
        # A store that was restored from a backup lacks what was stored since, and the broker still has its messages.
        context.emit(*attempt.take_completed_by())
        return f"round {session.round} made no model ({error.reason})"
    return ""


async def _pause(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Waits until the next attempt may start: 1 s after this one started, 2 s after the second, doubling to a minute.

    Without it a client that fails at once uses up all attempts before the fault is over.
    """
    least = min(LONGEST_PAUSE, 2.0 ** (attempt.number - 1))
    left, timer = attempt.created_at + least - context.now.wall, f"retry:{session.name}"
    if left > 0:
        context.emit(StartTimer(timer, min(left, least)))
        while not isinstance(await context.first(MembersChanged, until=timer), Fired):
            pass


def _retry(context: ReducerContext, session: Session, attempt: Attempt, reason: str) -> None:
    """Reports that an attempt made no model. Raises Ended if it was the last one."""
    causes = f": {found}" if (found := attempt.causes()) else ""
    if attempt.number > session.policy.retries:
        times = f"{attempt.number} attempts" if attempt.number > 1 else "1 attempt"
        raise Ended(Stage.FAILED, f"{reason} in {times}{causes}")
    event_id = f"retried-{session.name}-{session.round}-{attempt.number}"
    data = {"reason": f"{reason}{causes}", "attempt": attempt.number}
    context.emit(PublishEvent("round.retried", session.name, session.round, data=data, id=event_id))
