"""Events as they come: the newest in memory, and subscribers that are told each one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Self

from fedmq.brokers.base import Connection
from fedmq.runtime.event_stream import observe
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.records import event_document
from fedmq_schemas.topology import Topology

KEPT = 2_000
ROUND_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)


class Subscription:
    """One reader's queue, until its `with` block ends. When it falls `KEPT` events behind it is `lost`: it must begin again
    from the records. `newest`: the events of before it.

    No generator makes it, as the garbage collector may end one on any thread, also on one that is telling an event."""

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[Subscription], None]) -> None:
        self.newest: list[dict[str, Any]] = []
        self.lost = False
        self._loop = loop
        self._end = end
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(KEPT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(self)

    async def next(self, timeout: float) -> dict[str, Any] | None:
        """The next event, or None if none came in time."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except TimeoutError:
            return None

    def tell(self, document: dict[str, Any]) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._put, document)

    def _put(self, document: dict[str, Any]) -> None:
        if self._queue.full():
            self.lost = True
        else:
            self._queue.put_nowait(document)


class EventStream:
    """Takes events in on an actor's thread, tells them on the web server's."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.round_seconds = [0.0, *(0 for _ in ROUND_BUCKETS)]
        self._lock = threading.Lock()
        self._newest: deque[tuple[Envelope, Event]] = deque(maxlen=KEPT)
        self._subscriptions: list[Subscription] = []

    def push(self, envelope: Envelope, event: Event) -> None:
        with self._lock:
            self.counts[event.name] += 1
            if event.name == "round.committed":
                self._time_round(float(event.data.get("seconds", 0.0)))
            self._newest.append((envelope, event))
            for subscription in self._subscriptions:
                subscription.tell(event_document(envelope, event))

    def _time_round(self, seconds: float) -> None:
        self.round_seconds[0] += seconds
        for index, bound in enumerate(ROUND_BUCKETS, 1):
            self.round_seconds[index] += seconds <= bound

    def watch(self, connection: Connection, topology: Topology, name: str) -> None:
        """Listens on a queue of its own; from the scheduler's thread."""
        observe(connection, topology.observer(name), topology.alliance, self.push)

    def subscribe(self) -> Subscription:
        """From the web server's loop, in a `with` statement."""
        subscription = Subscription(asyncio.get_running_loop(), self._unsubscribe)
        with self._lock:
            subscription.newest = [event_document(envelope, event) for envelope, event in self._newest]
            self._subscriptions.append(subscription)
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.remove(subscription)
