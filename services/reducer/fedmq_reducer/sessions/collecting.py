"""An attempt's plans, and the partials that answer them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedmq.effects import Ack, Fired, PublishEvent, Received, StartTimer
from fedmq_reducer.operations import CheckLease, RecordPartial, ReplaceAttempt
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import Attempt, PlannedPart, group_by_combiner
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Answered, Moved
from fedmq_reducer.sessions.planning import publish_plan, publish_void
from fedmq_reducer.sessions.recording import attempt_record
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.messages import Partial
from fedmq_schemas.records import PartialRecord

LEAST_GRACE = 5.0


async def collect(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Publishes the open plans, and waits until each one is answered or voided. The deadline is a little after the
    combiners', which answer at theirs with what they have."""
    timeout, overdue = session.policy.timeout, f"round:{session.name}"
    attempt.due_at = context.now.seconds + timeout
    context.emit(StartTimer(overdue, timeout + max(LEAST_GRACE, timeout / 10)))
    for partial, event in session.take_early():
        if answer := new_answer(context, session, event, partial):
            _accept(context, session, attempt, answer)
    _publish_plans(context, session, attempt, attempt.open_parts)
    windows.ask(context, session)
    while attempt.open_parts:
        match await context.first(Answered, Moved, until=overdue):
            case Answered() as answer:
                _accept(context, session, attempt, answer)
            case Moved(clients):
                _plan_again(context, session, attempt, clients)
            case Fired():
                _void(context, session, attempt, attempt.open_parts, "did not answer in time")


def _accept(context: ReducerContext, session: Session, attempt: Attempt, answer: Answered) -> None:
    """Records a partial, then acknowledges it. The one that completes the round needs no record: the round's record holds
    it, and acknowledges it."""
    answer.part.partial = answer.partial
    if not attempt.open_parts and attempt.accepted() >= session.policy.clients_required:
        attempt.completed_by = (answer.tag,)
    else:
        record = PartialRecord.of(answer.partial, answer.part.combiner)
        context.emit(RecordPartial(record, context.term), Ack((answer.tag,)))


def _plan_again(context: ReducerContext, session: Session, attempt: Attempt, moved: Mapping[str, str]) -> None:
    """Voids the open plans of vanished combiners whose clients work elsewhere now, and plans for these clients again."""
    here = context.members.combiners
    lost = [part for part in attempt.open_parts if part.combiner not in here and set(part.clients) <= set(moved)]
    if not lost:
        return
    first = len(attempt.parts)
    for part in lost:
        attempt.parts += session.new_parts(group_by_combiner(part.clients, moved), len(attempt.parts))
    _void(context, session, attempt, lost, "has vanished")
    _publish_plans(context, session, attempt, attempt.parts[first:])


def _void(context: ReducerContext, session: Session, attempt: Attempt, parts: Sequence[PlannedPart], what: str) -> None:
    """Records that parts are voided, and new ones if there are any, then reports it to their combiners."""
    for part in parts:
        part.voided = True
    context.emit(ReplaceAttempt(attempt_record(session, attempt, context.term), context.term))
    for part in parts:
        publish_void(context, part, f"combiner {part.combiner} {what}")


def _publish_plans(context: ReducerContext, session: Session, attempt: Attempt, parts: Sequence[PlannedPart]) -> None:
    for part in parts:
        publish_plan(context, session, part, session.model, max(0.0, attempt.due_at - context.now.seconds))


# -- beside the routine ---------------------------------------------------------------------------------------------


def publish_open_plans(context: ReducerContext, session: Session, combiner: str) -> None:
    """Publishes what is still open for a combiner that has said hello."""
    attempt = session.attempt
    if attempt is not None:
        open_parts = [part for part in attempt.open_parts if part.combiner == combiner]
        _publish_plans(context, session, attempt, open_parts)


def new_answer(context: ReducerContext, session: Session | None, event: Received, body: Partial) -> Answered | None:
    """Returns the partial if it is the answer to an open part. Any other one is settled here: it was delivered before, or
    its plan is not open. One whose attempt is being recorded waits until that record is read: a reducer before this one may
    have drawn the attempt and sent its plans."""
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
