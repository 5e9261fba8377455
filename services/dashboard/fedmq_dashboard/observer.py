"""News from the alliance's event exchange, on a queue of this dashboard's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedmq.brokers.base import Connection
from fedmq.errors import FedMQError
from fedmq.runtime.event_stream import observe
from fedmq.scheduler import Scheduler
from fedmq_dashboard.live import Live
from fedmq_dashboard.sources import Tail
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.records import event_document
from fedmq_schemas.topology import Topology

CATCH_UP_SECONDS = 10.0


class Observer:
    """Takes in events as they are told. The broker drops the oldest for an observer that is slow, and keeps nothing while
    it is away, so the records are asked every ten seconds for what was missed. A member of a `Service`."""

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
        queue = self._topology.observer(self._name)
        observe(self._connection, queue, self._topology.alliance, self._heard)
        self._catch_up()

    def drain(self, then: Callable[[], None]) -> None:
        then()

    def leave(self, timeout: float) -> None:
        self._connection.close(timeout)

    def _heard(self, envelope: Envelope, event: Event) -> None:
        self._live.apply([event_document(envelope, event)])

    def _catch_up(self) -> None:
        self._scheduler.submit(self._tail.look, self._caught_up)

    def _caught_up(self, _: Any, error: Exception | None) -> None:
        reason = error.reason if isinstance(error, FedMQError) else repr(error)
        self._live.tell_trouble("" if error is None else f"The records can't be read now: {reason}")
        self._scheduler.later(CATCH_UP_SECONDS, self._catch_up)
