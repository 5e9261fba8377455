"""The thread behind a RabbitMQ connection: pika's event loop, which reconnects for ever with back-off."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import pika
from pika.adapters.select_connection import IOLoop
from pika.connection import Connection
from pika.exceptions import ConnectionClosedByBroker
from pika.frame import Method
from pika.spec import Connection as Spec

from fedmq import tls
from fedmq.brokers.base import Delivery, Outgoing, dead_letter
from fedmq.brokers.rabbitmq.consumer import ChannelConsumer, Held
from fedmq.brokers.rabbitmq.pika_connection import PikaConnection, innermost
from fedmq.brokers.rabbitmq.publisher import Declared, Deletion, Publisher, Sending
from fedmq.brokers.rabbitmq.retiring import RetiringConsumer
from fedmq.brokers.rabbitmq.thread_bridge import Callback, ThreadBridge
from fedmq.errors import ConfigError, FedMQError
from fedmq_schemas.topology import Queue

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
LEAVE_SECONDS = 1.0
LOOK_SECONDS = 1.0
SILENT_AFTER = 7
"""Looks without a byte of RabbitMQ, after which it is silent. Its heartbeats leave no pause longer than 5 s. pika drops a
link only after 10 to 20 s."""
UNSERVED_AFTER = 10.0


log = logging.getLogger("fedmq.brokers.rabbitmq.broker")


class Link:
    """A connection that is restored for ever, with its consumers and its publisher.

    All methods but `start`, `wake` and `join` run on its own thread. `out` passes callbacks to the actor's thread.
    """

    def __init__(
        self,
        parameters: pika.URLParameters,
        out: ThreadBridge,
        on_reconnect: Callback,
        on_error: Callable[[FedMQError], None],
    ) -> None:
        self.held: dict[int, Held] = {}
        """The unsettled deliveries of all consumers, by the tag that actors use."""
        self.next_tag = count(1)
        self.blocked = ""
        """Why RabbitMQ accepts no messages."""
        self.silent = 0.0
        """Seconds without any byte of RabbitMQ, from `SILENT_AFTER` on."""
        self.unserved = ""
        """The name of a queue whose deliveries RabbitMQ has not begun for `UNSERVED_AFTER` seconds."""
        self._parameters = parameters
        account = parameters.credentials
        self._account = account.username if isinstance(account, pika.PlainCredentials) else ""
        self._out = out
        self._on_reconnect = on_reconnect
        self._on_error = on_error
        self._loop = IOLoop()
        self._thread = threading.Thread(target=self._run, name="rabbitmq", daemon=True)
        self._connection: PikaConnection | None = None
        self._consumers: dict[int, ChannelConsumer] = {}
        self._publisher = Publisher(self._account, self.later, self.fail, self._on_idle)
        self._delay = FIRST_DELAY
        self._up = False
        self._was_up = False
        self._trouble: str | None = None
        self._reported: set[str] = set()
        self._acking: set[ChannelConsumer] = set()
        self._closing = False
        self._leaving = False

    def start(self) -> None:
        """Starts the link's thread, which connects."""
        self._thread.start()

    def wake(self, callback: Callback) -> None:
        """Runs the callback on the link's thread; from any thread."""
        self._loop.add_callback_threadsafe(callback)

    def join(self, timeout: float) -> None:
        """Waits for the end of the link's thread."""
        self._thread.join(timeout)

    @property
    def is_up(self) -> bool:
        """Whether the connection is established; from any thread."""
        return self._up

    def _run(self) -> None:
        try:
            self._connect()
            self._loop.start()
            self._loop.close()
        except Exception as error:  # a bug, which must end the actor and not only this thread
            bug = error

            def reveal() -> None:
                raise bug

            self._out.put(reveal)

    # -- calls of the actor -----------------------------------------------------------------------------------------

    def declare(self, queue: Queue) -> None:
        """Declares the queue now and after each reconnect."""
        self._publisher.put(queue)

    def delete(self, queue_name: str) -> None:
        """Deletes the queue."""
        self._publisher.put(Deletion(queue_name))

    def publish(self, message: Outgoing, on_confirm: Callable[[FedMQError | None], None] | None) -> None:
        """Publishes the message. Without `on_confirm` it is dropped while the connection is lost."""
        if on_confirm is not None:
            self._publisher.put(Sending(message, lambda error: self._out.put(partial(on_confirm, error))))
        elif self._up or not self._was_up:
            self._publisher.put(Sending(message, None))

    def consume(self, key: int, queue_name: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        """Consumes the queue until `cancel(key)`."""
        self._add(key, ChannelConsumer(self, queue_name, prefetch, self._handing(on_delivery)))

    def retire(self, key: int, queue: Queue, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        """Consumes the queue until it is empty and deleted, or until `cancel(key)`."""
        self._add(key, RetiringConsumer(self, queue, prefetch, self._handing(on_delivery)))

    def _handing(self, on_delivery: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
        return lambda delivery: self._out.put(partial(on_delivery, delivery))

    def _add(self, key: int, consumer: ChannelConsumer) -> None:
        self._consumers[key] = consumer
        self._publisher.put(Declared(partial(self._begin, consumer)))

    def _begin(self, consumer: ChannelConsumer) -> None:
        consumer.is_due = True
        if self._connection is not None and not self._leaving:
            consumer.open(self._connection)

    def cancel(self, key: int) -> None:
        """Ends the deliveries of `consume(key, ...)`."""
        consumer = self._consumers.pop(key, None)
        if consumer is not None:
            consumer.cancel()

    def ack(self, tags: list[int]) -> None:
        """Acknowledges deliveries together with those of other calls that arrive now."""
        for tag in tags:
            held = self.held.pop(tag, None)
            if held is not None:
                held.consumer.ack(held.delivery_tag)
                if not self._acking:
                    # After all calls that were passed over together, so that their acknowledgements become one.
                    self.wake(self._flush_acks)
                self._acking.add(held.consumer)

    def _flush_acks(self) -> None:
        for consumer in self._acking:
            consumer.flush()
        self._acking.clear()

    def reject(self, tag: int, reason: str) -> None:
        """Publishes a dead letter, and acknowledges the delivery once that is confirmed, so the reason is never lost."""
        held = self.held.get(tag)
        if held is None or held.rejected:
            return
        held.rejected = True
        delivery = held.delivery
        queue = self.declared(delivery.queue)
        message, headers = dead_letter(delivery, reason, None if queue is None else queue.dead_letter)

        def done(error: FedMQError | None) -> None:
            if error is not None:
                # If it were not acknowledged, it would be redelivered for ever.
                log.warning("dropped %s of %s (%s): %s", delivery.message_id, delivery.queue, reason, error.reason)
            self.ack([tag])

        self._publisher.put(Sending(message, done, headers))

    def requeue(self, tag: int) -> None:
        """Returns a delivery to its queue."""
        held = self.held.pop(tag, None)
        if held is not None:
            held.consumer.requeue(held.delivery_tag)

    def drop(self, tag: int) -> None:
        """Forgets a delivery whose consumer the actor had cancelled before it received it."""
        held = self.held.pop(tag, None)
        if held is not None:
            held.consumer.drop(held.delivery_tag)

    def close(self, timeout: float) -> None:
        """Disconnects once all publishes are confirmed, or after `timeout` seconds."""
        self._closing = True
        self.later(timeout, self._leave)
        if self._publisher.is_idle():
            self._leave()

    def kill(self) -> None:
        """Disconnects at once."""
        self._closing = True
        self._publisher.forget()
        self._leave(in_order=False)

    # -- calls of consumers and the publisher -----------------------------------------------------------------------

    def later(self, seconds: float, callback: Callback) -> object:
        """Calls back on the link's thread after this time."""
        return self._loop.call_later(seconds, callback)

    def declared(self, queue_name: str) -> Queue | None:
        """Returns the queue of that name, if this connection declares it."""
        return self._publisher.declared(queue_name)

    def fail(self, error: FedMQError) -> None:
        """Reports an error that retrying does not mend, once for each cause."""
        if error.reason not in self._reported:
            self._reported.add(error.reason)
            self._out.put(partial(self._on_error, error))

    def deliveries_voided(self) -> None:
        """Reports that the unsettled deliveries will be delivered again."""
        self._out.put(self._on_reconnect)

    # -- events of the connection -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._closing:
            self._loop.stop()
            return
        self._connection = PikaConnection(
            self._parameters,
            on_open_callback=lambda connection: self._publisher.open(connection, partial(self._on_ready, connection)),
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_ready(self, connection: Connection) -> None:
        if connection is not self._connection or self._leaving:
            return
        self._up = True
        self._delay = FIRST_DELAY
        if self._trouble is not None:
            self._trouble = None
            log.info("connected to RabbitMQ again")
        if self._was_up:
            # Before the consumers, so that no new delivery reaches the actor ahead of it.
            self._out.put(self._on_reconnect)
        self._was_up = True
        for consumer in self._consumers.values():
            if consumer.is_due:
                consumer.open(self._connection)
        self._look(self._connection, -1, 0)

    def _look(self, connection: PikaConnection, received: int, looks: int) -> None:
        """Counts the looks since `received` bytes were reached, so a pause of this thread is no silence of RabbitMQ."""
        if connection is not self._connection:
            return
        looks = looks + 1 if connection.bytes_received == received else 0
        self.silent = looks * LOOK_SECONDS if looks >= SILENT_AFTER else 0.0
        before = time.monotonic() - UNSERVED_AFTER
        unserved = (each for each in self._consumers.values() if each.unserved_since and each.unserved_since < before)
        self.unserved = next((each.queue_name for each in unserved), "")
        self.later(LOOK_SECONDS, partial(self._look, connection, connection.bytes_received, looks))

    def _on_lost(self, _: Connection, reason: BaseException) -> None:
        self._up = False
        self.blocked = ""
        self.silent = 0.0
        if not isinstance(reason, ConnectionClosedByBroker):  # as RabbitMQ closes it for a queue without a leader
            self.unserved = ""
        self._connection = None
        self._publisher.lose()
        for consumer in self._consumers.values():
            consumer.lose()
        self.held.clear()
        if self._leaving:
            self._loop.stop()
            return
        self._report(reason)
        self.later(self._delay * random.uniform(0.5, 1.0), self._connect)
        self._delay = min(LONGEST_DELAY, 2 * self._delay)

    def _on_blocked(self, _: Connection, frame: Method[Spec.Blocked]) -> None:
        self.blocked = frame.method.reason
        log.warning("RabbitMQ takes no messages until it has room (%s): what is published waits", frame.method.reason)

    def _on_unblocked(self, *_: object) -> None:
        self.blocked = ""
        log.info("RabbitMQ takes messages again")

    def _report(self, reason: BaseException) -> None:
        where = f"RabbitMQ at {self._parameters.host}:{self._parameters.port}"
        explained = tls.explain_certificate_error(reason)
        if explained is not None and not self._was_up:  # later it may be renewed while we try
            self.fail(ConfigError(f"{where} {explained}"))
            return
        if self._trouble is None or (explained is not None and self._trouble != explained):
            cause = innermost(reason)
            self._trouble = explained or f"{type(cause).__name__}: {cause}"
            log.warning("no connection to %s, trying again: %s", where, self._trouble)
        refusal = self._refusal(str(reason))
        if refusal is not None:
            self.fail(ConfigError(f"{where} {refusal}: see FEDN_AMQP_URL"))

    def _refusal(self, text: str) -> str | None:
        """Returns the fault of the account or vhost, if RabbitMQ's message names one.

        pika's exception types only guess it from how far the handshake got, which a broker that shuts down ends anywhere.
        """
        if "ACCESS_REFUSED" in text:
            return f"refuses the account {self._account!r} or its password"
        if "NOT_ALLOWED" in text and "is down" not in text and "limit" not in text:
            return f"has no vhost {self._parameters.virtual_host!r} for the account {self._account!r}"
        return None

    def _on_idle(self) -> None:
        if self._closing:
            self._leave()

    def _leave(self, in_order: bool = True) -> None:
        if self._leaving:
            return
        self._leaving = True
        if self._connection is None:
            self._loop.stop()
            return
        self.later(LEAVE_SECONDS, self._loop.stop)
        if in_order and self._connection.is_open:
            self._flush_acks()
            self._connection.leave()
        else:
            self._connection.crash()
