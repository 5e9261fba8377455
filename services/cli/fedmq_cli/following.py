"""A session watched from afar: its events through the REST API, in the same views as the sandbox's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from fedmq_cli.interruption import calling
from fedmq_cli.progress import SessionProgress
from fedmq_cli.views import view_for
from fedmq_schemas.messages import Event

if TYPE_CHECKING:
    from fedmq_sdk.alliance import SessionHandle


def watch(session: SessionHandle, stream: TextIO) -> dict[str, Any]:
    """Shows the session until it has ended; returns its record. Ctrl-C ends the view and leaves the session running."""
    progress = SessionProgress(session.refresh()["policy"]["rounds"], session.id)
    view = view_for(progress, stream)
    with calling(view.__exit__), view:
        for row in session.follow():
            event = Event.model_validate(row)
            progress.feed(event)
            view.event(event)
    return session.refresh()
