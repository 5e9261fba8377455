"""One consumer on a channel of its own, as a refusal of RabbitMQ closes the whole channel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic

from fedmq.brokers.base import Delivery
from fedmq.brokers.rabbitmq import queues as terms
from fedmq.errors import ConfigError

if TYPE_CHECKING:
    from fedmq.brokers.rabbitmq.link import Link

FIRST_RETRY = 0.05
LONGEST_RETRY = 1.0


@dataclass(slots=True, eq=False)
class Held:
    """An unsettled delivery. Its own tag is never used again; `delivery_tag` starts at 1 on each channel."""

    consumer: ChannelConsumer
    delivery_tag: int
    delivery: Delivery
    rejected: bool = False


class ChannelConsumer:
    """Consumes one queue, on the link's thread. Retries until a queue exists that is absent or deleted later.

    - `is_due`: whether what its actor declared before it is declared, so that it is opened on each connection.
    - `unserved_since`: when RabbitMQ was first asked to deliver and has not answered, in monotonic seconds; else None. A
      connection that is lost meanwhile is no answer: RabbitMQ closes it if the queue has no leader.
    """

    def __init__(self, link: Link, queue_name: str, prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        self.queue_name = queue_name
        self.is_due = False
        self.unserved_since: float | None = None
        self._link = link
        self._prefetch = prefetch
        self._deliver = deliver
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._consumer_tag = ""
        self._unsettled: dict[int, int] = {}
        self._acked: set[int] = set()
        self._retry_after = FIRST_RETRY
        self._attempt = 0
        self._cancelled = False

    def open(self, connection: Connection) -> None:
        """Starts to consume on a new connection."""
        self._attempt += 1
        self._connection = connection
        connection.channel(on_open_callback=self._on_open)

    def lose(self) -> None:
        """Notes that the connection is lost, so its deliveries can't be settled any more."""
        self._attempt += 1
        self._connection = self._channel = None
        self._consumer_tag = ""
        self._void()

    def _void(self) -> None:
        for tag in self._unsettled.values():
            self._link.held.pop(tag, None)
        self._unsettled.clear()
        self._acked.clear()

    def _on_open(self, channel: Channel) -> None:
        self._channel = channel
        if self._cancelled:
            channel.close()
            return
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(lambda _: self._try_again())
        queue = self._link.declared(self.queue_name)
        if queue is not None:
            terms.declare(channel, queue, set())
        channel.basic_qos(prefetch_count=self._prefetch)
        self._consume()

    def _consume(self) -> None:
        if self._channel is not None and self._channel.is_open and not self._cancelled:
            self.unserved_since = self.unserved_since or time.monotonic()
            self._consumer_tag = self._channel.basic_consume(
                self.queue_name, self._on_message, callback=lambda _: self._on_consuming()
            )

    def _on_consuming(self) -> None:
        self._retry_after = FIRST_RETRY
        self.unserved_since = None

    def _on_message(self, _: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if self._cancelled:
            return  # the message returns to its queue when the channel closes
        assert method.delivery_tag is not None and method.exchange is not None and method.routing_key is not None
        tag = next(self._link.next_tag)
        self._unsettled[method.delivery_tag] = tag
        delivery = Delivery(
            tag,
            self.queue_name,
            method.exchange,
            _as_text(method.routing_key),
            body,
            _as_text(properties.message_id),
            _as_text(properties.content_type),
            method.redelivered,
            properties.user_id,
            properties.priority or 0,
            properties.headers or {},
        )
        self._link.held[tag] = Held(self, method.delivery_tag, delivery)
        self._deliver(delivery)

    def ack(self, delivery_tag: int) -> None:
        """Keeps an acknowledgement until `flush`."""
        self._acked.add(delivery_tag)

    def flush(self) -> None:
        """Sends the acknowledgements: one for the longest run from the first unsettled delivery, then one each."""
        channel, unsettled, acked = self._channel, self._unsettled, self._acked
        if channel is None or not channel.is_open or not acked:
            return
        first = []
        for delivery_tag in unsettled:
            if delivery_tag not in acked:
                break
            first.append(delivery_tag)
        if first:
            channel.basic_ack(first[-1], multiple=len(first) > 1)
        rest = acked.difference(first)
        for delivery_tag in rest:
            channel.basic_ack(delivery_tag)
        for delivery_tag in (*first, *rest):
            del unsettled[delivery_tag]
        acked.clear()
        self._close_if_done()

    def requeue(self, delivery_tag: int) -> None:
        """Returns a delivery to its queue."""
        if self._channel is not None and self._channel.is_open:
            self._channel.basic_nack(delivery_tag, requeue=True)
            self._unsettled.pop(delivery_tag, None)
            self._close_if_done()

    def drop(self, delivery_tag: int) -> None:
        """Forgets a delivery that the actor did not receive. It returns to its queue when the channel closes."""
        self._unsettled.pop(delivery_tag, None)
        self._close_if_done()

    def cancel(self) -> None:
        """Ends the deliveries. The channel stays open until they are settled."""
        self._cancelled = True
        if self._channel is not None and self._channel.is_open and self._consumer_tag:
            self._channel.basic_cancel(self._consumer_tag)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._cancelled and not self._unsettled and self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _try_again(self) -> None:
        attempt = self._attempt

        def retry() -> None:
            if attempt != self._attempt:
                return  # the connection was lost meanwhile, which opens this consumer again
            if self._channel is not None:
                self._consume()
            elif self._connection is not None and self._connection.is_open and not self._cancelled:
                self.open(self._connection)

        self._link.later(self._retry_after, retry)
        self._retry_after = min(LONGEST_RETRY, 2 * self._retry_after)

    def _on_closed(self, _: Channel, reason: Exception) -> None:
        if not isinstance(reason, ChannelClosedByBroker):
            return
        self._channel = None
        self._consumer_tag = ""
        self.unserved_since = None
        if self._unsettled:
            self._void()
            self._link.deliveries_voided()
        if reason.reply_code == terms.ACCESS_REFUSED:
            self._link.fail(
                ConfigError(f"RabbitMQ refuses to deliver: {reason.reply_text}: `fedmq doctor ROLE` names the remedy")
            )
        self._try_again()


def _as_text(value: str | bytes | None) -> str:
    """Returns a short text of AMQP, which pika leaves as bytes if it is no UTF-8. It stays as short."""
    if isinstance(value, bytes):
        return value.decode(errors="replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    return value or ""
