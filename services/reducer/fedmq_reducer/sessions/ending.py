"""The end of a session: it is recorded first, then reported. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.runtime.effects import Ack, CancelTimer, Publish, PublishEvent
from fedmq_reducer.operations import ChangeSession
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_reducer.sessions.steps import expiring
from fedmq_reducer.snapshot import SessionSnapshot
from fedmq_schemas import messages, topology
from fedmq_schemas.keys import model_id
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ENDED, SessionChange, SessionEnd

UNRECORDED = "the record store refuses the reason"
"""The reason of a session's end whose own reason can't be recorded."""


def end(context: ReducerContext, session: Session, stage: Stage, reason: str) -> None:
    """Records the end of a session, acknowledges the messages that it holds, and reports the end.

    The metrics of its models are recorded before, as an ended session changes nothing more. If the store refuses them, they
    are left out. If making them raises, the session is ended by `end_from_records`.
    """
    session.stage = stage
    model = model_id(session.lineage.model.key) if session.lineage.model else None
    change = _end_record(context, stage, reason, session.round - 1, model)
    context.emit(*session.take_deferred())
    windows.record_summaries(context, session)
    context.emit(ChangeSession(session.name, change, context.term))
    if session.attempt is not None:
        context.emit(*session.attempt.take_completed_by())
    context.emit(*(Ack((event.tag,)) for _, event in session.take_early()))
    announce(context, session.name, session.policy.model_dump(mode="json"), change)
    context.emit(*(CancelTimer(f"{kind}:{session.name}") for kind in ("round", "retry", "wait", "score", "window")))


def end_unreadable(context: ReducerContext, found: SessionSnapshot, fault: str) -> None:
    """Ends a session of another version, whose policy this version can't read. `fault`: what is wrong with the policy."""
    reason = f"this version does not read its policy ({fault}): start a session from its last model"
    end_from_records(context, found, reason, Policy().model_dump(mode="json"))


def end_from_records(context: ReducerContext, found: SessionSnapshot, reason: str, policy: Mapping[str, Any]) -> None:
    """Ends a session that can't go on, and computes nothing for that. `policy`: one that this version can read."""
    record, newest = found.session, found.rounds[-1] if found.rounds else None
    model = record.seed if newest is None else model_id(newest.model.key)
    change = _end_record(context, Stage.FAILED, reason, newest.round if newest else 0, model)
    context.emit(ChangeSession(record.session, change, context.term))
    announce(context, record.session, policy, change)


def announce(context: ReducerContext, name: str, policy: Mapping[str, Any], change: SessionEnd) -> None:
    """Reports a recorded end, at which combiners forget the session, and deletes what is not kept. May be repeated."""
    data = {"reason": change.reason, "model": change.model}
    void = messages.VoidPlan(epoch=context.term, session=name)
    context.emit(
        PublishEvent(f"session.{change.state}", name, change.round, data=data, id=f"ended-{name}"),
        *(Publish("task", topology.plan_key(combiner), void) for combiner in context.members.combiners),
        *expiring.after_end(name, policy, change.round, context.term),
        ChangeSession(name, SessionChange(announced=True), context.term),
    )


def _end_record(context: ReducerContext, stage: Stage, reason: str, number: int, model: str | None) -> SessionEnd:
    """Returns the changes of the session's record. `number`: its last committed round. `model`: the last one."""
    state = stage.recorded
    assert state in ENDED
    return SessionEnd(
        state=state,
        reason=reason,
        round=number,
        model=model,
        announced=False,
        ended_at=context.now.wall,
        waiting="",
        waiting_until=None,
    )
