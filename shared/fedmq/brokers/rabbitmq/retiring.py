"""Empties a queue that another one replaces, and deletes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Queue as Spec

from fedmq.brokers.base import Delivery
from fedmq.brokers.rabbitmq.consumer import ChannelConsumer
from fedmq.brokers.rabbitmq.queues import NOT_FOUND
from fedmq_schemas.topology import Queue

if TYPE_CHECKING:
    from fedmq.brokers.rabbitmq.link import Link

LOOK_AGAIN_AFTER = 1.0


class RetiringConsumer(ChannelConsumer):
    """Consumes a queue while it has messages. See `Connection.retire`.

    Counts messages and consumers once a second, as RabbitMQ's own conditions `if-empty` and `if-unused` do not exist for
    quorum queues. Deletes a queue that has no messages and, once this consumer has ended, no consumer. A consumer that has
    not settled its deliveries is there still, so several of them delete the queue only after the last delivery.
    """

    def __init__(self, link: Link, queue: Queue, prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        super().__init__(link, queue.name, prefetch, deliver)
        self._queue = queue

    def open(self, connection: Connection) -> None:
        """Looks at the queue, on a new connection or after its consumer was refused."""
        self._attempt += 1
        self._connection = connection
        self._look(self._attempt)

    def _look(self, attempt: int) -> None:
        connection = self._connection
        if attempt == self._attempt and connection is not None and connection.is_open and not self._cancelled:
            connection.channel(on_open_callback=partial(self._examine, attempt))

    def _examine(self, attempt: int, channel: Channel) -> None:
        """On a channel of its own, which RabbitMQ closes if the queue does not exist."""
        channel.add_on_close_callback(partial(self._on_refused, attempt))
        for bound in self._queue.bindings:
            channel.queue_unbind(self.queue_name, bound.exchange, bound.routing_key)
        channel.queue_declare(self.queue_name, passive=True, callback=partial(self._on_counted, attempt, channel))

    def _on_counted(self, attempt: int, channel: Channel, frame: Method[Spec.DeclareOk]) -> None:
        ready, consumers = frame.method.message_count, frame.method.consumer_count
        is_done = not ready and not consumers
        if is_done:
            channel.queue_delete(self.queue_name)
        channel.close()
        if is_done or attempt != self._attempt or self._connection is None:
            return
        if ready and self._channel is None:
            super().open(self._connection)
        elif not ready and not self._unsettled and self._channel is not None and self._channel.is_open:
            self._channel.close()
            self._channel = None
        self._look_later()

    def _on_refused(self, attempt: int, _: Channel, reason: Exception) -> None:
        is_there = isinstance(reason, ChannelClosedByBroker) and reason.reply_code != NOT_FOUND
        if is_there and attempt == self._attempt:
            self._look_later()

    def _look_later(self) -> None:
        self._link.later(LOOK_AGAIN_AFTER, partial(self._look, self._attempt))
