"""Sources of news: the alliance's event exchange, and records that another process writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fedmq.brokers.base import Connection
from fedmq.errors import FedMQError
from fedmq.records.base import Records
from fedmq.runtime.event_stream import observe
from fedmq.scheduler import Scheduler
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.records import event_document
from fedmq_schemas.topology import Topology

CATCH_UP_SECONDS = 10.0
PERIOD = 0.5
"""Seconds between two looks at the records."""
OVERLAP = 3.0
"""Seconds before the newest known event that each look reads again."""
PAGE = 1_000


class Tail:
    """Follows the events that are added to records, in batches and by several clocks, on a thread of its own.

    `remark` returns what each page states while the records can be read; empty for nothing.
    """

    def __init__(self, records: Records, live: Live, period: float = PERIOD, remark: Callable[[], str] = str) -> None:
        self._remark = remark
        self._records = records
        self._live = live
        self._period = period
        self._stop = threading.Event()
        self._at: float | None = None
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread and waits for its end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.look()
                remark = self._remark()
            except FedMQError as error:
                remark = f"The records can't be read now: {error.reason}"
            self._live.tell_trouble(remark)
            if self._stop.wait(self._period):
                return

    def look(self) -> None:
        """Applies new events. The first look starts where the oldest open round started."""
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
        running = self._records.find(tables.SESSIONS, {"state": ["waiting", "running", "validating"]})
        attempts = [History(self._records).newest_attempt(each["session"]) for each in running]
        return min([each["created_at"] - OVERLAP for each in attempts if each is not None], default=self._at)


class Observer:
    """Applies events as they are published. A member of a `Service`.

    The broker drops the oldest events for a slow observer and keeps none while it is disconnected, so the records are read
    every ten seconds for those that were missed.
    """

    def __init__(
        self, connection: Connection, scheduler: Scheduler, topology: Topology, live: Live, tail: Tail, name: str
    ) -> None:
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._live = live
        self._tail = tail
        self._name = name

    def start(self) -> None:
        """Subscribes to all events."""
        queue = self._topology.observer(self._name)
        observe(self._connection, queue, self._topology.alliance, self._receive)
        self._catch_up()

    def drain(self, then: Callable[[], None]) -> None:
        """Has nothing to finish."""
        then()

    def leave(self, timeout: float) -> None:
        """Closes the connection."""
        self._connection.close(timeout)

    def _receive(self, envelope: Envelope, event: Event) -> None:
        self._live.apply([event_document(envelope, event)])

    def _catch_up(self) -> None:
        self._scheduler.submit(self._tail.look, self._caught_up)

    def _caught_up(self, _: Any, error: Exception | None) -> None:
        reason = error.reason if isinstance(error, FedMQError) else repr(error)
        self._live.tell_trouble("" if error is None else f"The records can't be read now: {reason}")
        self._scheduler.later(CATCH_UP_SECONDS, self._catch_up)
