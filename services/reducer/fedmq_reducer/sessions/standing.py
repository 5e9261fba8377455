"""Where a session stands, as its record says. Pure."""

from __future__ import annotations

from fedmq_reducer.operations import Change
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_schemas import records


def record_standing(context: ReducerContext, session: Session) -> None:
    """Records the session's state, what it waits for and until when, unless the record says so already."""
    standing = session.standing
    fields = {
        "state": session.stage.recorded,
        "waiting": standing.waiting,
        "waiting_until": standing.waiting_until,
    }
    if fields != standing.recorded:
        standing.recorded = fields
        context.emit(Change(records.SESSIONS, session.name, fields, context.term))
