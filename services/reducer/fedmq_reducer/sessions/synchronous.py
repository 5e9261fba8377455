"""The course of a session: rounds, one after the other, from its first model to its last. Pure.

Every decision is recorded before it is published: the draw of an attempt before its plans, a partial before its
acknowledgement, the round before its events. So a reducer that takes over finds each decision in the records: `resuming`
restores the session from them, and this course continues where they end.
"""

from __future__ import annotations

from fedmq.runtime.effects import CancelTimer, PublishEvent
from fedmq_reducer.sessions.attempt import Attempt
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Ended
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_reducer.sessions.steps.collecting import collect
from fedmq_reducer.sessions.steps.committing import commit
from fedmq_reducer.sessions.steps.concluding import conclude, last_window
from fedmq_reducer.sessions.steps.drawing import draw
from fedmq_reducer.sessions.steps.opening import open_seed


async def synchronous(context: ReducerContext, session: Session) -> str:
    """Returns why the session is finished before its last round, or an empty text after its last round.

    Raises Ended if the session is stopped or fails, and FedMQError if an effect that it needs is refused.
    """
    if session.lineage.model is None:
        await open_seed(context, session)
    elif session.attempt is None:  # a reducer takes over between two rounds
        await conclude(context, session)
    while not session.is_last:
        await commit(context, session, await train(context, session))
        await conclude(context, session)
    await last_window(context, session)
    return session.ending.finished_by


async def train(context: ReducerContext, session: Session) -> Attempt:
    """Returns the first attempt at the round with enough updates. Raises Ended if no retry is left."""
    attempt = session.attempt or await draw(context, session)  # a reducer takes over while plans are open
    await collect(context, session, attempt)
    while attempt.accepted() < session.policy.clients_required:
        _retry(context, session, attempt)
        attempt = await draw(context, session)
        await collect(context, session, attempt)
    context.emit(CancelTimer(f"round:{session.name}"))
    return attempt


def _retry(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Reports that an attempt had too few updates. Raises Ended if it was the last one."""
    required, retries = session.policy.clients_required, session.policy.retries
    reason = f"round {session.round} got {attempt.accepted()} updates of {required}"
    causes = f": {found}" if (found := attempt.causes()) else ""
    if attempt.number > retries:
        times = f"{attempt.number} attempts" if attempt.number > 1 else "1 attempt"
        raise Ended(Stage.FAILED, f"{reason} in {times}{causes}")
    event_id = f"retried-{session.name}-{session.round}-{attempt.number}"
    data = {"reason": f"{reason}{causes}", "attempt": attempt.number}
    context.emit(PublishEvent("round.retried", session.name, session.round, data=data, id=event_id))
