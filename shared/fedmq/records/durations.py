"""How long a session was in the queue and how long it ran, from its document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def began_at(session: Mapping[str, Any]) -> float:
    """Returns when a session left the queue; if that is not recorded, when it was created."""
    started = session.get("started_at")
    return float(session["created_at"] if started is None else started)


def seconds_queued(session: Mapping[str, Any]) -> float | None:
    """Returns the seconds from a session's creation to its start; None if no start is recorded."""
    started = session.get("started_at")
    return None if started is None else float(started) - float(session["created_at"])


def seconds_run(session: Mapping[str, Any]) -> float | None:
    """Returns the seconds from a session's start to its end, without the queue; None if it has not ended or never began.

    Documents of older versions have no `started_at`: their sessions count from their creation.
    """
    ended = session.get("ended_at")
    if ended is None or session.get("started_at", ended) is None:
        return None
    return float(ended) - began_at(session)
