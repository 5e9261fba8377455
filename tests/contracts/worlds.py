"""The worlds of the broker's contract suite: beside the port, a scheduler to drive and links to break."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

import pika
from pika.exceptions import ChannelClosedByBroker

from fedmq.brokers.base import Connection, Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.memory.connection import MemoryConnection
from fedmq.brokers.registry import open_broker
from fedmq.errors import FedMQError
from fedmq.scheduler import ThreadScheduler, VirtualScheduler
from fedmq_schemas.topology import Queue, Topology
from support.servers.proxy import Proxy
from support.servers.rabbitmq import RabbitmqServer

DEADLINE = 20.0
QUIET = 0.3


class World(Protocol):
    """One broker with nothing in it that this test could meet: `topology` is of an alliance of its own.

    - `account`: the `account` of the brokers that `connect` uses.
    - `until(condition)`: runs callbacks until it holds; fails the test if it doesn't for long.
    - `rest(seconds)`: lets time pass, so that what must not happen had its chance.
    - `exists(queue_name)`: whether the broker has such a queue.
    - `cut(connection)`, `restore(connection)`: the link is lost, and stays so until it is restored.
    """

    topology: Topology
    account: str | None

    def connect(self, name: str) -> Connection: ...
    def until(self, condition: Callable[[], bool]) -> None: ...
    def rest(self, seconds: float = QUIET) -> None: ...
    def cut(self, connection: Connection) -> None: ...
    def restore(self, connection: Connection) -> None: ...
    def exists(self, queue_name: str) -> bool: ...
    def close(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.topology = Topology("alliance")
        self.scheduler = VirtualScheduler()
        broker = open_broker("memory:", self.scheduler)
        assert isinstance(broker, MemoryBroker)
        self.broker = broker
        self.account: str | None = broker.account

    def connect(self, name: str) -> Connection:
        return self.broker.connect(name)

    def until(self, condition: Callable[[], bool]) -> None:
        assert self.scheduler.run(until=condition, limit=self.scheduler.now() + DEADLINE)

    def rest(self, seconds: float = QUIET) -> None:
        end = self.scheduler.now() + seconds
        self.scheduler.later(seconds, lambda: None)
        self.scheduler.run(limit=end)

    def cut(self, connection: Connection) -> None:
        assert isinstance(connection, MemoryConnection)
        self.broker.break_connection(connection, downtime=1.0)

    def restore(self, connection: Connection) -> None:
        self.rest(1.0)

    def exists(self, queue_name: str) -> bool:
        return any(depth.name == queue_name for depth in self.broker.depths())

    def close(self) -> None:
        for connection in list(self.broker.connections):
            connection.kill()


class RabbitmqWorld:
    """Each connection goes through a proxy of its own."""

    _numbers = itertools.count()

    def __init__(self, server: RabbitmqServer) -> None:
        self.topology = Topology(f"alliance{next(self._numbers)}")
        self.scheduler = ThreadScheduler()
        self.account: str | None = None
        self._server = server
        self._proxies: dict[Connection, Proxy] = {}

    def connect(self, name: str) -> Connection:
        proxy = Proxy(self._server.port)
        broker = open_broker(f"amqp://guest:guest@127.0.0.1:{proxy.port}/", self.scheduler)
        self.account = broker.account
        connection = broker.connect(name)
        self._proxies[connection] = proxy
        return connection

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = self.scheduler.now() + DEADLINE

        def check() -> None:
            if condition() or self.scheduler.now() > deadline:
                self.scheduler.stop()
            else:
                self.scheduler.later(0.002, check)

        self.scheduler.post(check)
        self.scheduler.run()
        assert condition()

    def rest(self, seconds: float = QUIET) -> None:
        end = self.scheduler.now() + seconds
        self.until(lambda: self.scheduler.now() >= end)

    def cut(self, connection: Connection) -> None:
        self._proxies[connection].down()

    def restore(self, connection: Connection) -> None:
        self._proxies[connection].up()

    def exists(self, queue_name: str) -> bool:
        with closing(pika.BlockingConnection(pika.URLParameters(self._server.url))) as connection:
            try:
                connection.channel().queue_declare(queue_name, passive=True)
            except ChannelClosedByBroker:
                return False
            return True

    def close(self) -> None:
        for connection, proxy in self._proxies.items():
            connection.kill()
            proxy.close()
        self.scheduler.close()


@dataclass
class Inbox:
    """The deliveries of a consumer. `acking`: it acknowledges each at once."""

    connection: Connection
    acking: bool = True
    deliveries: list[Delivery] = field(default_factory=list)

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self.acking:
            self.connection.ack([delivery.tag])

    @property
    def ids(self) -> list[str]:
        return [delivery.message_id for delivery in self.deliveries]

    @property
    def tags(self) -> list[int]:
        return [delivery.tag for delivery in self.deliveries]


Confirms = list[FedMQError | None]


def message(topology: Topology, exchange: str, routing_key: str, message_id: str, mandatory: bool = False) -> Outgoing:
    return Outgoing(topology.exchange(exchange), routing_key, b"body", message_id, mandatory=mandatory)


def confirm_of(world: World, connection: Connection, exchange: str, key: str) -> FedMQError | None:
    """Publishes one mandatory message and returns its confirm."""
    confirms: Confirms = []
    connection.publish(message(world.topology, exchange, key, "m", mandatory=True), confirms.append)
    world.until(lambda: bool(confirms))
    return confirms[0]


def send(world: World, sender: Connection, key: str, *ids: str, exchange: str = "task") -> None:
    """Publishes and waits until all are confirmed."""
    confirms: Confirms = []
    for each in ids:
        sender.publish(message(world.topology, exchange, key, each), confirms.append)
    world.until(lambda: len(confirms) == len(ids))
    assert confirms == [None] * len(ids)


def connect_with(world: World, name: str, queue: Queue) -> tuple[Connection, Queue]:
    """Returns a new connection, and the queue, which the connection has declared."""
    connection = world.connect(name)
    connection.declare(queue)
    return connection, queue


def open_inbox(connection: Connection, queue: Queue, prefetch: int = 0, acking: bool = True) -> Inbox:
    inbox = Inbox(connection, acking)
    connection.consume(queue.name, prefetch, inbox)
    return inbox


def numbered(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]
