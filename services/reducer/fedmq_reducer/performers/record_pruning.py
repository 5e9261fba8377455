"""Deletes old records that prove nothing: events, and the attempts, partials and windows of sessions that ended long ago."""

from __future__ import annotations

from fedmq.records.base import Records
from fedmq_schemas import records as tables

BATCH = 500


def prune(records: Records, before: float) -> None:
    """Deletes what is older than `before`, in UTC seconds since 1970. May be repeated, also after a crash.

    - Events that were published before.
    - Attempts, partials and windows of sessions that ended before. Attempts are deleted last: they lead to the others.

    Never deletes sessions, rounds, models, participation, validations and summaries.
    """
    _prune_events(records, before)
    _prune_attempts(records, before)


def _prune_events(records: Records, before: float) -> None:
    while True:
        oldest = records.find(tables.EVENTS, order="at", limit=BATCH)
        old = [event["at"] for event in oldest if event["at"] < before]
        deleted = records.delete(tables.EVENTS, {"at": old}) if old else 0
        if len(old) < BATCH or not deleted:
            return


def _prune_attempts(records: Records, before: float) -> None:
    last = None
    while True:
        found = records.find(tables.ATTEMPTS, order="created_at", limit=BATCH, after=last)
        old = [attempt for attempt in found if attempt["created_at"] < before]
        for name in sorted({attempt["session"] for attempt in old}):
            session = records.get(tables.SESSIONS, name)
            if session is not None and session["state"] in tables.ENDED and session["ended_at"] < before:
                records.delete(tables.PARTIALS, {"session": name})
                records.delete(tables.WINDOWS, {"session": name})
                records.delete(tables.ATTEMPTS, {"session": name})
        if len(old) < BATCH:
            return
        last = old[-1]["created_at"]
