"""Events of a folder as its writer records them, in the place of those that an alliance publishes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from fedmq.errors import Transient
from fedmq.records.base import Records
from fedmq_reducer.web.api.feed import EventStream, Subscription
from fedmq_schemas import records as tables

PERIOD = 0.2
"""Seconds between two looks at the records."""
OVERLAP = 3.0
"""Seconds before the newest known event that each look reads again: events are recorded in batches, by several clocks."""


class FolderEvents(EventStream):
    """Gives each subscription the events that are recorded after its begin."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self._records = records

    def subscribe(self) -> Subscription:
        """Returns a new subscription, which reads the records while its `next` is awaited."""
        return RecordedSubscription(self._records)


class RecordedSubscription(Subscription):
    """One reader's events, read from the records. Each is returned once."""

    def __init__(self, records: Records) -> None:
        super().__init__(asyncio.get_running_loop(), lambda _: None)
        self._records = records
        self._found: deque[dict[str, Any]] = deque()
        self._known: set[str] = set()
        newest = records.find(tables.EVENTS, order="at", descending=True, limit=1)
        self._at: float = newest[0]["at"] if newest else 0.0
        self._look()
        self._found.clear()

    async def next(self, timeout: float) -> dict[str, Any] | None:
        """Returns the next event, or None if there is none within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        while not self._found and loop.time() < ends:
            await asyncio.sleep(PERIOD)
            self._look()
        return self._found.popleft() if self._found else None

    def _look(self) -> None:
        try:
            recent = self._records.find(tables.EVENTS, order="at", after=self._at - OVERLAP)
        except Transient:  # the next look reads what this one misses
            return
        self._found += (event for event in recent if event["id"] not in self._known)
        self._known = {event["id"] for event in recent}
        self._at = max([self._at, *(event["at"] for event in recent)])
