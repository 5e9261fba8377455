"""Restores a session from its records, for a reducer that takes over. Pure."""

from __future__ import annotations

from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_reducer.sessions.steps.committing import record_participation, report_round
from fedmq_reducer.snapshot import SessionSnapshot


def resume(context: ReducerContext, session: Session, found: SessionSnapshot) -> None:
    """Restores a session that had begun, and publishes again what may not have been published."""
    session.validations.results = {model: dict(clients) for model, clients in found.validations.items()}
    first_draw = found.attempts[0].created_at if found.attempts else context.now.wall
    session.began_at = context.now.seconds - max(0.0, context.now.wall - first_draw)
    session.resumed_at = context.now.seconds
    for committed in found.rounds:
        session.adopt_round(committed)
        if committed.round not in found.expired_rounds:
            windows.reopen(session, committed.round, committed.model, committed.committed_at)
    if found.rounds:
        report_round(context, found.rounds[-1])
        context.emit(record_participation(found.rounds[-1], context.term))
    for draw in found.attempts:
        session.note_draw(draw)
    if found.attempts:
        attempt = session.adopt_attempt(found.attempts[-1])
        attempt.adopt_partials(each.partial for each in found.partials)
    if session.lineage.model is None:
        return
    first = found.rounds[0].parent if found.rounds else session.model
    windows.reopen(session, 0, first, session.ending.started_at or context.now.wall)
    for recorded in found.windows:
        windows.restore(session, recorded)
    windows.request_again(context, session)
