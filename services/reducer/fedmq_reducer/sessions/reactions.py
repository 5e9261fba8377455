"""Answers that do not depend on the course of a session: to late and redelivered partials, and to hellos. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from fedmq.runtime.effects import Ack, PublishEvent, Received
from fedmq_reducer.operations import CheckLease
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import Attempt, PlannedPart
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Answered
from fedmq_reducer.sessions.planning import publish_plan
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.messages import Partial


def publish_open_plans(context: ReducerContext, session: Session, combiner: str) -> None:
    """Publishes the plans that are open for a combiner, which has registered."""
    attempt = session.attempt
    if attempt is not None:
        mine = [part for part in attempt.open_parts if part.combiner == combiner]
        publish_open_parts(context, session, attempt, mine)
    windows.publish_open_plans(context, session, combiner)


def publish_open_parts(
    context: ReducerContext, session: Session, attempt: Attempt, parts: Iterable[PlannedPart]
) -> None:
    """Publishes plans of the open attempt, with the time that is left until its deadline."""
    left = max(0.0, attempt.due_at - context.now.seconds)
    for part in parts:
        publish_plan(context, session, part, session.model, left)


def new_answer(context: ReducerContext, session: Session | None, event: Received, body: Partial) -> Answered | None:
    """Returns the partial if it is the first answer to an open part. Settles any other partial.

    If the attempt of the partial is being recorded, the partial waits until that is done: an earlier reducer may have drawn
    the attempt and sent its plans.
    """
    attempt = session.attempt if session is not None else None
    part = attempt.part(body.plan) if attempt is not None else None
    if session is not None and session.is_recording_attempt_of(body.plan):
        session.early.append((body, event))
    elif attempt is None or part is None or not part.is_answered_by(body, event.envelope.sender):
        data = {"reason": "a partial of a plan that is not open", "plan": str(body.plan), "counts": body.counts}
        context.emit(
            PublishEvent("plan.voided", body.plan.session, body.plan.round, None, event.envelope.sender, data),
            CheckLease(context.term),
            Ack((event.tag,)),
        )
    elif part.partial is None:
        return Answered(part, body, event.tag)
    elif attempt.completed_by:
        attempt.completed_by += (event.tag,)
    else:
        context.emit(CheckLease(context.term), Ack((event.tag,)))
    return None
