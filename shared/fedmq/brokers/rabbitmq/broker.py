"""The broker port on RabbitMQ 3.10 to 4.x.

Each connection has a thread that runs pika. The actor's calls are passed to it in batches, and its callbacks return
through the scheduler. A message that is to be confirmed is persistent. Each has the account's name, which RabbitMQ
verifies.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import pika

from fedmq.brokers.base import Delivery, OnConfirm, OnDelivery, OnError, OnReconnect, Outgoing
from fedmq.brokers.rabbitmq.link import Link
from fedmq.brokers.rabbitmq.pika_connection import read_url
from fedmq.brokers.rabbitmq.thread_bridge import ThreadBridge
from fedmq.errors import ConfigError, FedMQError
from fedmq.scheduler import Scheduler
from fedmq_schemas.topology import Queue

HEARTBEAT = 5
STACK_TIMEOUT = 10.0


class RabbitmqBroker:
    """The RabbitMQ at `amqp[s]://user:password@host:port/vhost`. Raises ConfigError if the URL can't be read."""

    def __init__(self, url: str, scheduler: Scheduler) -> None:
        self._url = url
        self._scheduler = scheduler
        account = self._parameters("").credentials
        self.account = account.username if isinstance(account, pika.PlainCredentials) else ""
        # pika logs each failed attempt with several tracebacks; the link logs one line.
        logging.getLogger("pika").setLevel(logging.CRITICAL)

    def connect(self, name: str) -> RabbitmqConnection:
        """Starts the connection's thread."""
        return RabbitmqConnection(self._parameters(name), self._scheduler)

    def _parameters(self, name: str) -> pika.URLParameters:
        parameters = read_url(self._url)
        parameters.heartbeat = HEARTBEAT
        parameters.stack_timeout = STACK_TIMEOUT
        parameters.client_properties = {"connection_name": name, "product": "FedMQ"}
        return parameters


@dataclass(slots=True, eq=False)
class _Claim:
    """One `consume` call, until its `cancel`."""

    on_delivery: OnDelivery
    live: bool = True


class RabbitmqConnection:
    """The actor's side of a connection, on the scheduler's thread. `close` and `kill` wait for the link's thread to end."""

    def __init__(self, parameters: pika.URLParameters, scheduler: Scheduler) -> None:
        self.on_reconnect: OnReconnect | None = None
        self.on_error: OnError | None = None
        self._closed = False
        self._claims: dict[str, _Claim] = {}
        self._link = Link(parameters, ThreadBridge(scheduler.post), self._reconnected, self._fail)
        self._put = ThreadBridge(self._link.wake).put
        self._link.start()

    @property
    def connected(self) -> bool:
        """Whether the link is established, and RabbitMQ sends its heartbeats."""
        return self._link.is_up and not self._link.silent

    @property
    def silent(self) -> float:
        """The link's."""
        return self._link.silent

    @property
    def blocked(self) -> str:
        """The reason that RabbitMQ has given."""
        return self._link.blocked

    @property
    def unserved(self) -> str:
        """The link's."""
        return self._link.unserved

    def declare(self, queue: Queue) -> None:
        """Passes the queue to the link, which declares it again after each reconnect."""
        if not self._closed:
            self._put(partial(self._link.declare, queue))

    def delete(self, queue_name: str) -> None:
        """Passes the deletion to the link."""
        if not self._closed:
            self._put(partial(self._link.delete, queue_name))

    def publish(self, message: Outgoing, on_confirm: OnConfirm | None = None) -> None:
        """Passes the message to the link."""
        if not self._closed:
            self._put(partial(self._link.publish, message, on_confirm))

    def consume(self, queue_name: str, prefetch: int, on_delivery: OnDelivery) -> None:
        """Consumes on a channel of its own."""
        if not self._closed:
            claim = self._claim(queue_name, on_delivery)
            self._put(partial(self._link.consume, id(claim), queue_name, prefetch, partial(self._hand, claim)))

    def retire(self, queue: Queue, prefetch: int, on_delivery: OnDelivery) -> None:
        """Consumes on a channel of its own while the queue has messages."""
        if not self._closed:
            claim = self._claim(queue.name, on_delivery)
            self._put(partial(self._link.retire, id(claim), queue, prefetch, partial(self._hand, claim)))

    def _claim(self, queue_name: str, on_delivery: OnDelivery) -> _Claim:
        if queue_name in self._claims:
            raise ConfigError(f"{queue_name} is already consumed on this connection: cancel it first")
        claim = self._claims[queue_name] = _Claim(on_delivery)
        return claim

    def _hand(self, claim: _Claim, delivery: Delivery) -> None:
        if claim.live:
            claim.on_delivery(delivery)
        elif not self._closed:
            self._put(partial(self._link.drop, delivery.tag))

    def cancel(self, queue_name: str) -> None:
        """Drops deliveries that are on their way from the link."""
        claim = self._claims.pop(queue_name, None)
        if claim is not None:
            claim.live = False
            self._put(partial(self._link.cancel, id(claim)))

    def ack(self, tags: list[int]) -> None:
        """Passes the tags to the link, which joins acknowledgements."""
        if not self._closed:
            self._put(partial(self._link.ack, tags))

    def reject(self, tag: int, reason: str) -> None:
        """Passes the rejection to the link, which publishes the dead letter."""
        if not self._closed:
            self._put(partial(self._link.reject, tag, reason))

    def requeue(self, tag: int) -> None:
        """Passes the tag to the link."""
        if not self._closed:
            self._put(partial(self._link.requeue, tag))

    def close(self, timeout: float = 5.0) -> None:
        """Waits for the link's thread, which waits for the confirms."""
        if not self._closed:
            self._end()
            self._put(partial(self._link.close, timeout))
            self._link.join(timeout + 2.0)

    def kill(self) -> None:
        """Drops what is not sent yet."""
        if not self._closed:
            self._end()
            self._put(self._link.kill)
            self._link.join(2.0)

    def _end(self) -> None:
        self._closed = True
        for claim in self._claims.values():
            claim.live = False
        self._claims.clear()

    def _reconnected(self) -> None:
        if not self._closed and self.on_reconnect is not None:
            self.on_reconnect()

    def _fail(self, error: FedMQError) -> None:
        if self._closed:
            return
        if self.on_error is None:
            raise error
        self.on_error(error)
