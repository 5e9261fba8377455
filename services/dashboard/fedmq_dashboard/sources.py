"""Where news comes from: the alliance's event stream, or records that somebody else is writing."""

from __future__ import annotations

import threading
from typing import Any

from fedmq.errors import FedMQError
from fedmq.records.base import Document, Records
from fedmq_dashboard.live import Live
from fedmq_schemas import records as tables

PERIOD = 0.5
OVERLAP = 3.0
PAGE = 1_000


class Tail:
    """Follows the events that are added to records, on a thread of its own: only those since its last look, and a few
    seconds before, because they are recorded in batches and by several clocks."""

    def __init__(self, records: Records, live: Live, period: float = PERIOD) -> None:
        self._records = records
        self._live = live
        self._period = period
        self._stop = threading.Event()
        self._at: float | None = None
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except FedMQError as error:
                self._live.tell_trouble(f"The records can't be read now: {error.reason}")
            else:
                self._live.tell_trouble("")
            if self._stop.wait(self._period):
                return

    def look(self) -> None:
        """Takes in what is new. The first look begins where the open rounds began."""
        after = self._begin() if self._at is None else self._at - OVERLAP
        while True:
            found = self._records.find(tables.EVENTS, order="at", after=after, limit=PAGE)
            self._live.apply(found)
            if found:
                after = found[-1]["at"]
                self._at = max(self._at or after, after)
            if len(found) < PAGE:
                return

    def _begin(self) -> float:
        newest = self._records.find(tables.EVENTS, order="at", descending=True, limit=1)
        self._at = newest[0]["at"] if newest else 0.0
        planned = [self._planned(session["session"]) for session in self._running()]
        return min([at - OVERLAP for at in planned if at is not None], default=self._at)

    def _running(self) -> list[Document]:
        states = ["waiting", "running", "validating"]
        return list(self._records.find(tables.SESSIONS, {"state": states}))

    def _planned(self, session: str) -> Any:
        where = {"session": session}
        found = self._records.find(tables.ATTEMPTS, where, order="created_at", descending=True, limit=1)
        return found[0]["created_at"] if found else None
