"""A connection of the in-memory broker: its link, the faults of the network, and what is sent again after them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from fedmq.brokers.base import Delivery, OnConfirm, OnDelivery, OnError, OnReconnect, Outgoing, dead_letter
from fedmq.brokers.memory.queue import MemoryQueue, QueueConsumer, QueuedMessage
from fedmq.errors import ConfigError, FedMQError, ProtocolError
from fedmq_schemas.topology import Queue

if TYPE_CHECKING:
    from fedmq.brokers.memory.broker import MemoryBroker

log = logging.getLogger("fedmq.brokers.memory")

RESENT_AFTER = 1.0
LONGEST_TEXT = 255
"""In bytes: AMQP's limit of an address and of an id."""
_NO_HEADERS: Mapping[str, object] = {}


class Faults(Protocol):
    """The faults of the network between connections and broker."""

    def on_publish(self, message: Outgoing) -> Sequence[float]:
        """Returns the delay in seconds of each copy of the message that arrives.

        - `[0.0]` is no fault, `[0.3]` a slow network, `[0.0, 0.3]` a duplicate.
        - `[]`: the message is lost before its confirm. It is sent again after `RESENT_AFTER` seconds, or lost for good if
          it was published without `on_confirm`.

        First copies of a connection arrive in their order, as on a TCP stream. Duplicates may arrive at any later time.
        """


class MemoryConnection:
    """One actor's link. `close` while the link is broken disconnects at once, and loses what is unconfirmed."""

    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self.name = name
        self.on_reconnect: OnReconnect | None = None
        self.on_error: OnError | None = None
        self._broker = broker
        self._switchboard = broker.switchboard
        self._post = broker.scheduler.post
        self._closed = False
        self._tag = 0
        self._unsettled: dict[int, tuple[QueueConsumer, MemoryQueue, QueuedMessage]] = {}
        self._consumers: dict[str, QueueConsumer] = {}
        self._declared: dict[str, Queue] = {}
        self._retired: list[str] = []
        self._deleted: list[str] = []
        self._arrived: deque[tuple[Outgoing, OnConfirm, FedMQError | None]] = deque()
        self._confirming = False
        # Sent, or to be sent, and not at the broker yet. Empty without faults and broken links.
        self._pipe: deque[tuple[Outgoing, OnConfirm | None]] = deque()
        self._pipe_clear_at = 0.0
        self._epoch = 0
        self._up = True
        if broker.scheduler.now() < broker.down_until:
            self._up = False
            self._return_after(0.0, first=True)

    @property
    def connected(self) -> bool:
        """Whether the connection is open and its link unbroken."""
        return self._up and not self._closed

    @property
    def silent(self) -> float:
        """Always 0.0: this broker does not hang."""
        return 0.0

    @property
    def blocked(self) -> str:
        """Always empty, as memory has no alarms."""
        return ""

    @property
    def unserved(self) -> str:
        """Always empty: this broker serves each queue."""
        return ""

    def declare(self, queue: Queue) -> None:
        """Declares the queue at once, or after the link is restored."""
        if self._closed:
            return
        self._declared[queue.name] = queue
        if self._up:
            self._declare(queue)

    def _declare(self, queue: Queue) -> None:
        try:
            self._switchboard.declare(queue, self if queue.exclusive else None)
        except ConfigError as error:
            del self._declared[queue.name]
            self._post(partial(self._fail, error))

    def _fail(self, error: FedMQError) -> None:
        if self.on_error is None:
            raise error
        self.on_error(error)

    def delete(self, queue_name: str) -> None:
        """Deletes the queue at once, or after the link is restored."""
        if self._closed:
            return
        self._declared.pop(queue_name, None)
        if self._up:
            self._switchboard.delete(queue_name)
        else:
            self._deleted.append(queue_name)

    def publish(self, message: Outgoing, on_confirm: OnConfirm | None = None) -> None:
        """Publishes with the broker's faults; on a broken link, keeps a message that is to be confirmed."""
        if self._closed:
            return
        if any(len(text.encode(errors="replace")) > LONGEST_TEXT for text in (message.routing_key, message.message_id)):
            self._fail_alone(message, on_confirm)
            return
        if self._up and self._broker.faults is None:
            self._arrive(message, on_confirm)
        elif not self._up:
            if on_confirm is not None:
                self._pipe.append((message, on_confirm))
        else:
            self._send_with_faults(self._broker.faults, message, on_confirm)

    def _fail_alone(self, message: Outgoing, on_confirm: OnConfirm | None) -> None:
        error = ProtocolError(f"AMQP can't carry the message to {message.exchange} {message.routing_key}: too long")
        if on_confirm is None:
            log.warning("a message was not published: %s", error.reason)
        else:
            self._post(partial(on_confirm, error))

    def _arrive(self, message: Outgoing, on_confirm: OnConfirm | None) -> None:
        error = self._switchboard.route(message, self.name, _NO_HEADERS)
        if on_confirm is not None:
            self._arrived.append((message, on_confirm, error))
            if not self._confirming:
                self._confirming = True
                self._post(self._confirm)

    def _confirm(self) -> None:
        self._confirming = False
        for _ in range(len(self._arrived)):
            # A callback may break this very connection, which takes the rest back to be sent again.
            if not self._arrived:
                return
            _, on_confirm, error = self._arrived.popleft()
            on_confirm(error)

    def _send_with_faults(self, faults: Faults | None, message: Outgoing, on_confirm: OnConfirm | None) -> None:
        delays: Sequence[float] = (0.0,) if faults is None else faults.on_publish(message)
        if not delays:
            if on_confirm is None:
                return
            delays = (RESENT_AFTER,)
        scheduler = self._broker.scheduler
        now = scheduler.now()
        self._pipe_clear_at = max(self._pipe_clear_at, now + delays[0])
        self._pipe.append((message, on_confirm))
        if self._pipe_clear_at <= now and len(self._pipe) == 1:
            self._pipe_out(self._epoch)
        else:
            scheduler.later(self._pipe_clear_at - now, partial(self._pipe_out, self._epoch))
        for delay in delays[1:]:
            scheduler.later(delay, partial(self._arrive, message, None))

    def _pipe_out(self, epoch: int) -> None:
        if epoch == self._epoch and self._up:
            self._arrive(*self._pipe.popleft())

    def consume(self, queue_name: str, prefetch: int, on_delivery: OnDelivery) -> None:
        """Consumes the queue at once, or after the link is restored."""
        if self._closed:
            return
        if queue_name in self._consumers:
            raise ConfigError(f"{self.name} already consumes {queue_name}: cancel it first")
        consumer = QueueConsumer(prefetch, partial(self._hand, on_delivery))
        self._consumers[queue_name] = consumer
        if self._up:
            self._switchboard.join(queue_name, consumer)

    def retire(self, queue: Queue, prefetch: int, on_delivery: OnDelivery) -> None:
        """Consumes the queue until it is deleted."""
        if self._closed:
            return
        self.consume(queue.name, prefetch, on_delivery)
        self._retired.append(queue.name)
        if self._up:
            self._switchboard.retire(queue.name)

    def _hand(self, on_delivery: OnDelivery, consumer: QueueConsumer, queue: MemoryQueue, entry: QueuedMessage) -> None:
        self._tag += 1
        self._unsettled[self._tag] = (consumer, queue, entry)
        consumer.unsettled += 1
        on_delivery(_delivery(self._tag, queue, entry))

    def cancel(self, queue_name: str) -> None:
        """Removes the consumer from its queue."""
        consumer = self._consumers.pop(queue_name, None)
        if consumer is not None:
            self._switchboard.leave(queue_name, consumer)

    def ack(self, tags: list[int]) -> None:
        """Makes room for further deliveries."""
        for tag in tags:
            held = self._settle(tag)
            if held is not None:
                self._switchboard.delete_if_done(held[0])

    def _settle(self, tag: int) -> tuple[MemoryQueue, QueuedMessage] | None:
        held = self._unsettled.pop(tag, None)
        if held is None:
            return None
        consumer, queue, entry = held
        consumer.unsettled -= 1
        queue.wake()
        return queue, entry

    def reject(self, tag: int, reason: str) -> None:
        """Publishes the dead letter without faults."""
        held = self._settle(tag)
        if held is None:
            return
        queue, entry = held
        letter, headers = dead_letter(_delivery(tag, queue, entry), reason, queue.queue.dead_letter)
        self._switchboard.route(letter, self.name, headers)
        self._switchboard.delete_if_done(queue)

    def requeue(self, tag: int) -> None:
        """Returns the delivery to the end of its queue."""
        held = self._settle(tag)
        if held is not None:
            queue, entry = held
            entry.redelivered = True
            queue.put(entry)

    def close(self, timeout: float = 5.0) -> None:
        """Sends at once what a slow network still holds, so `timeout` has no effect."""
        if self._closed:
            return
        while self._up and self._pipe:
            self._arrive(*self._pipe.popleft())
        self._depart()

    def kill(self) -> None:
        """Disconnects; no confirm is called any more."""
        if self._closed:
            return
        self._arrived.clear()
        self._depart()

    def _depart(self) -> None:
        self._closed = True
        self._epoch += 1
        self._release()
        self._consumers.clear()
        del self._broker.connections[self]

    def _release(self) -> None:
        """Removes consumers, returns unsettled deliveries and deletes exclusive queues, as a broker does for a lost link."""
        for name, consumer in self._consumers.items():
            self._switchboard.leave(name, consumer)
            consumer.unsettled = 0
        returning: dict[MemoryQueue, list[QueuedMessage]] = {}
        for _, queue, entry in self._unsettled.values():
            returning.setdefault(queue, []).append(entry)
        self._unsettled.clear()
        for queue, entries in returning.items():
            queue.put_back(entries)
        for spec in self._declared.values():
            if spec.exclusive:
                self._switchboard.delete(spec.name)

    def lose(self, downtime: float) -> None:
        """Breaks the link: see `MemoryBroker.break_connection`."""
        if self._closed or not self._up:
            return
        self._up = False
        self._epoch += 1
        self._release()
        unconfirmed = [(message, on_confirm) for message, on_confirm, _ in self._arrived]
        self._arrived.clear()
        self._pipe = deque([*unconfirmed, *(held for held in self._pipe if held[1] is not None)])
        self._return_after(downtime, first=False)

    def _return_after(self, downtime: float, first: bool) -> None:
        scheduler = self._broker.scheduler
        downtime = max(downtime, self._broker.down_until - scheduler.now())
        scheduler.later(downtime, partial(self._come_back, first))

    def _come_back(self, first: bool) -> None:
        if self._closed:
            return
        if self._broker.scheduler.now() < self._broker.down_until:
            self._return_after(0.0, first)
            return
        self._up = True
        self._pipe_clear_at = 0.0
        for name in self._deleted:
            self._switchboard.delete(name)
        self._deleted.clear()
        for queue in list(self._declared.values()):
            self._declare(queue)
        for name, consumer in self._consumers.items():
            self._switchboard.join(name, consumer)
        for name in self._retired:
            self._switchboard.retire(name)
        while self._pipe:
            self._arrive(*self._pipe.popleft())
        if not first and self.on_reconnect is not None:
            self.on_reconnect()


def _delivery(tag: int, queue: MemoryQueue, entry: QueuedMessage) -> Delivery:
    message = entry.message
    return Delivery(
        tag,
        queue.queue.name,
        message.exchange,
        message.routing_key,
        message.body,
        message.message_id,
        message.content_type,
        entry.redelivered,
        entry.user,
        headers=entry.headers,
    )
