"""The broker of the sandbox, simulation and tests: RabbitMQ's semantics in one process.

Queues live as long as the `MemoryBroker`. What RabbitMQ does on its own threads is done in callbacks posted to the
scheduler, so nothing is delivered or confirmed from within a call. With `faults`, `break_connection` and `outage` it fails
as a network and a broker do.
"""

from __future__ import annotations

from fedmq.brokers.base import Depth
from fedmq.brokers.memory.connection import Faults, MemoryConnection
from fedmq.brokers.memory.exchanges import Exchanges
from fedmq.scheduler import Scheduler


class MemoryBroker:
    """All exchanges and queues. For one scheduler's thread only."""

    def __init__(self, scheduler: Scheduler, faults: Faults | None = None) -> None:
        self.scheduler = scheduler
        self.faults = faults
        self.connections: dict[MemoryConnection, None] = {}
        self.down_until = 0.0
        self.switchboard = Exchanges(scheduler)

    @property
    def account(self) -> None:
        """None: the `user` of a connection is its name."""
        return None

    def connect(self, name: str) -> MemoryConnection:
        """Returns a connection that is established, unless the broker has an outage."""
        connection = MemoryConnection(self, name)
        self.connections[connection] = None
        return connection

    def break_connection(self, connection: MemoryConnection, downtime: float = 0.0) -> None:
        """Breaks a connection for `downtime` seconds, or until the outage is over, unless it is broken already."""
        connection.lose(downtime)

    def outage(self, seconds: float) -> None:
        """Breaks all connections for a time. Queues and messages survive; exclusive queues do not."""
        self.down_until = max(self.down_until, self.scheduler.now() + seconds)
        for connection in list(self.connections):
            connection.lose(seconds)

    def ready(self, queue_name: str) -> int:
        """Returns how many messages wait in a queue and are with no consumer; 0 if there is no such queue."""
        queue = self.switchboard.find(queue_name)
        return 0 if queue is None else len(queue.ready)

    def depths(self) -> list[Depth]:
        """Returns the depths of all queues, by name; from any thread, so they may be a moment old."""
        return sorted((queue.depth() for queue in self.switchboard.queues()), key=lambda depth: depth.name)
