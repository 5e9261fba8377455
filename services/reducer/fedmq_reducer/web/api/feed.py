"""Events as they are published: the newest ones in memory, and subscriptions that receive each one."""

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
    """One reader's queue of events, until its `with` block ends.

    - `newest`: the newest events before the subscription.
    - `lost`: the reader has fallen `KEPT` events behind, and must begin again from the records.

    This is a class and not a generator: the garbage collector may close a generator on a thread that already holds the
    stream's lock, which deadlocks.
    """

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
        """Returns the next event, or None if there is none within `timeout` seconds."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except TimeoutError:
            return None

    def put(self, document: dict[str, Any]) -> None:
        """Appends an event. May be called on any thread."""
        self._loop.call_soon_threadsafe(self._put, document)

    def _put(self, document: dict[str, Any]) -> None:
        if self._queue.full():
            self.lost = True
        else:
            self._queue.put_nowait(document)


class EventStream:
    """Receives events on the scheduler's thread, and hands them to subscriptions on the web server's.

    `counts`: events by name. `round_seconds`: the sum of the rounds' durations, then how many rounds took at most each of
    `ROUND_BUCKETS` seconds.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.round_seconds = [0.0, *(0 for _ in ROUND_BUCKETS)]
        self._lock = threading.Lock()
        self._newest: deque[tuple[Envelope, Event]] = deque(maxlen=KEPT)
        self._subscriptions: list[Subscription] = []

    def push(self, envelope: Envelope, event: Event) -> None:
        """Counts an event, and hands it to all subscriptions."""
        with self._lock:
            self.counts[event.name] += 1
            if event.name == "round.committed":
                self._time_round(float(event.data.get("seconds", 0.0)))
            self._newest.append((envelope, event))
            for subscription in self._subscriptions:
                subscription.put(event_document(envelope, event))

    def _time_round(self, seconds: float) -> None:
        self.round_seconds[0] += seconds
        for index, bound in enumerate(ROUND_BUCKETS, 1):
            self.round_seconds[index] += seconds <= bound

    def watch(self, connection: Connection, topology: Topology, name: str) -> None:
        """Consumes the alliance's events from a queue of its own. Must be called on the scheduler's thread."""
        observe(connection, topology.observer(name), topology.alliance, self.push)

    def subscribe(self) -> Subscription:
        """Returns a new subscription, to be used in a `with` statement. Must be called in the web server's loop."""
        subscription = Subscription(asyncio.get_running_loop(), self._unsubscribe)
        with self._lock:
            subscription.newest = [event_document(envelope, event) for envelope, event in self._newest]
            self._subscriptions.append(subscription)
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.remove(subscription)
