"""One consumer on a channel of its own, so that a refusal (which closes a channel) disturbs nobody else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Protocol

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic

from fedmq.brokers.base import Delivery
from fedmq.brokers.rabbitmq import queues as terms
from fedmq.errors import ConfigError, FedMQError
from fedmq_schemas.topology import Queue

FIRST_RETRY = 0.05
LONGEST_RETRY = 1.0


class Held:
    """A delivery that is not settled. Its own tag is never used again, `delivery_tag` counts anew on each channel."""

    __slots__ = ("consumer", "delivery", "delivery_tag", "rejected")

    def __init__(self, consumer: ChannelConsumer, delivery_tag: int, delivery: Delivery) -> None:
        self.consumer = consumer
        self.delivery_tag = delivery_tag
        self.delivery = delivery
        self.rejected = False


class Host(Protocol):
    """What a consumer needs of its link. `held`: the unsettled deliveries of all consumers, by the tag actors see."""

    held: dict[int, Held]
    next_tag: count[int]

    def later(self, seconds: float, callback: Callable[[], None]) -> object: ...
    def declared(self, queue_name: str) -> Queue | None: ...
    def fail(self, error: FedMQError) -> None: ...
    def deliveries_voided(self) -> None: ...


class ChannelConsumer:
    """Lives on the link's thread. A queue that is absent, or deleted later, is tried again until it is there."""

    def __init__(self, host: Host, queue_name: str, prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        self.queue_name = queue_name
        self._host = host
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
        """The connection is gone, and with it the right to settle what it delivered."""
        self._attempt += 1
        self._connection = self._channel = None
        self._consumer_tag = ""
        self._void()

    def _void(self) -> None:
        for tag in self._unsettled.values():
            self._host.held.pop(tag, None)
        self._unsettled.clear()
        self._acked.clear()

    def _on_open(self, channel: Channel) -> None:
        self._channel = channel
        if self._cancelled:
            channel.close()
            return
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(lambda _: self._try_again())
        queue = self._host.declared(self.queue_name)
        if queue is not None:
            terms.declare(channel, queue, set())
        channel.basic_qos(prefetch_count=self._prefetch)
        self._consume()

    def _consume(self) -> None:
        if self._channel is not None and self._channel.is_open and not self._cancelled:
            self._consumer_tag = self._channel.basic_consume(
                self.queue_name, self._on_message, callback=lambda _: self._on_consuming()
            )

    def _on_consuming(self) -> None:
        self._retry_after = FIRST_RETRY

    def _on_message(self, _: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if self._cancelled:
            return  # it returns to its queue when the channel closes
        assert method.delivery_tag is not None and method.exchange is not None and method.routing_key is not None
        tag = next(self._host.next_tag)
        self._unsettled[method.delivery_tag] = tag
        delivery = Delivery(
            tag,
            self.queue_name,
            method.exchange,
            method.routing_key,
            body,
            properties.message_id or "",
            properties.content_type or "",
            method.redelivered,
            properties.user_id,
            properties.headers or {},
        )
        self._host.held[tag] = Held(self, method.delivery_tag, delivery)
        self._deliver(delivery)

    def ack(self, delivery_tag: int) -> None:
        """Remembers an ack until `flush`."""
        self._acked.add(delivery_tag)

    def flush(self) -> None:
        """Sends the acks: one for all that come first of the unsettled, then one each."""
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
        if self._channel is not None and self._channel.is_open:
            self._channel.basic_nack(delivery_tag, requeue=True)
            self._unsettled.pop(delivery_tag, None)
            self._close_if_done()

    def drop(self, delivery_tag: int) -> None:
        """The actor had cancelled before it saw this one: it returns to its queue when the channel closes."""
        self._unsettled.pop(delivery_tag, None)
        self._close_if_done()

    def cancel(self) -> None:
        """No more deliveries. The channel stays for what is unsettled."""
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
                return  # the connection was lost meanwhile, which starts anew by itself
            if self._channel is not None:
                self._consume()
            elif self._connection is not None and self._connection.is_open and not self._cancelled:
                self.open(self._connection)

        self._host.later(self._retry_after, retry)
        self._retry_after = min(LONGEST_RETRY, 2 * self._retry_after)

    def _on_closed(self, _: Channel, reason: Exception) -> None:
        if not isinstance(reason, ChannelClosedByBroker):
            return
        self._channel = None
        self._consumer_tag = ""
        if self._unsettled:
            self._void()
            self._host.deliveries_voided()
        if reason.reply_code == terms.ACCESS_REFUSED:
            self._host.fail(
                ConfigError(f"RabbitMQ refuses to deliver: {reason.reply_text}: `fedmq doctor` says what to do")
            )
        self._try_again()
