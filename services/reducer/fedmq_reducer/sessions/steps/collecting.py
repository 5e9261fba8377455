"""The step that publishes an attempt's plans and collects their partials. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import Ack, Fired, StartTimer
from fedmq_reducer.operations import RecordPartial, ReplaceAttempt
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import Attempt, PlannedPart, group_by_combiner
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Answered, CombinersChanged
from fedmq_reducer.sessions.planning import publish_void
from fedmq_reducer.sessions.reactions import new_answer, publish_open_parts
from fedmq_reducer.sessions.recording import attempt_record
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_reducer.sessions.steps.drawing import check_combiners
from fedmq_schemas.records import PartialRecord

LEAST_GRACE = 5.0


async def collect(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Publishes the open plans, and waits until each one is answered or voided.

    The deadline is a little after the combiners': at theirs, they answer with the updates that they have.
    """
    timeout, overdue = session.policy.timeout, f"round:{session.name}"
    session.stage = Stage.RUNNING
    attempt.due_at = context.now.seconds + timeout
    context.emit(StartTimer(overdue, timeout + max(LEAST_GRACE, timeout / 10)))
    for partial, event in session.take_early():
        if answer := new_answer(context, session, event, partial):
            _accept(context, session, attempt, answer)
    _plan_again(context, session, attempt)
    publish_open_parts(context, session, attempt, attempt.open_parts)
    windows.request(context, session)
    while attempt.open_parts:
        match await context.first(Answered, CombinersChanged, until=overdue):
            case Answered() as answer:
                _accept(context, session, attempt, answer)
            case CombinersChanged():
                first = len(attempt.parts)
                _plan_again(context, session, attempt)
                publish_open_parts(context, session, attempt, attempt.parts[first:])
            case Fired():
                _void(context, session, attempt, attempt.open_parts, "did not answer in time")


def _accept(context: ReducerContext, session: Session, attempt: Attempt, answer: Answered) -> None:
    """Records a partial, then acknowledges it. That which completes the attempt waits for the round's record."""
    answer.part.partial = answer.partial
    if not attempt.open_parts and attempt.accepted() >= session.policy.clients_required:
        attempt.completed_by = (answer.tag,)
    else:
        record = PartialRecord.of(answer.partial, answer.part.combiner)
        context.emit(RecordPartial(record, context.term), Ack((answer.tag,)))


def _plan_again(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Voids the open plans of vanished combiners whose clients were moved, and adds plans for these clients.

    A client that was forgotten meanwhile has no combiner, so no plan holds it again. The others need not wait for it.
    """
    here, homes, known = context.members.combiners, context.members.homes(), context.members.clients
    lost = [
        part
        for part in attempt.open_parts
        if part.combiner not in here and (left := known.keys() & part.clients) and homes.keys() >= left
    ]
    if not lost:
        return
    for part in lost:
        groups = group_by_combiner([name for name in part.clients if name in homes], homes)
        check_combiners(context, session, groups)
        attempt.parts += session.new_parts(groups, len(attempt.parts))
    _void(context, session, attempt, lost, "has vanished")


def _void(context: ReducerContext, session: Session, attempt: Attempt, parts: Sequence[PlannedPart], what: str) -> None:
    """Records that parts are voided, and new parts if there are any, then reports it to the combiners."""
    for part in parts:
        part.voided = True
    context.emit(ReplaceAttempt(attempt_record(session, attempt, context.term), context.term))
    for part in parts:
        publish_void(context, part, f"combiner {part.combiner} {what}")
