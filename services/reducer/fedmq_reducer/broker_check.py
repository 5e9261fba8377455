"""Publishes a message to nobody from time to time, as RabbitMQ reports an alarm only to connections that publish."""

from __future__ import annotations

from collections.abc import Callable

from fedmq.brokers.base import Connection, Outgoing
from fedmq.scheduler import Scheduler, Timer
from fedmq_schemas.topology import Topology

PERIOD = 2.0
KEY = "check"
"""A routing key that no queue is bound to: the broker drops the message."""


class BrokerCheck:
    """Publishes every 2 s while the connection is up and not blocked. A member of a `Service`.

    Use a connection that no actor needs: RabbitMQ also stops to read acknowledgements from one that it has blocked.
    """

    def __init__(self, connection: Connection, scheduler: Scheduler, topology: Topology) -> None:
        self._connection = connection
        self._scheduler = scheduler
        self._exchange = topology.exchange("control")
        self._timer: Timer | None = None

    def start(self) -> None:
        """Publishes now, and then every 2 s."""
        if self._connection.connected and not self._connection.blocked:
            self._connection.publish(Outgoing(self._exchange, KEY, b"", KEY, expiration=PERIOD))
        self._timer = self._scheduler.later(PERIOD, self.start)

    def drain(self, then: Callable[[], None]) -> None:
        """Publishes nothing more, and calls `then`."""
        self.leave(0.0)
        then()

    def leave(self, timeout: float) -> None:
        """Publishes nothing more."""
        if self._timer is not None:
            self._timer.cancel()
