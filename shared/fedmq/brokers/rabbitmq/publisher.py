"""The channel that declares and publishes: in order, pipelined, and again after a loss until RabbitMQ has confirmed.

Declarations are sent on the same channel without waiting for an answer, so RabbitMQ performs them before later publishes.
A refusal closes the channel. Its text names the cause, which is reported; everything else is sent again on a new channel.

Who consumes a queue waits until it is declared (`Declared`): RabbitMQ creates a quorum queue in steps, and fails a second
channel that declares or consumes the queue between them: with 541 it closes the connection.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pika import BasicProperties, DeliveryMode
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker, ShortStringTooLong
from pika.frame import Method
from pika.spec import Basic

from fedmq.brokers.base import Outgoing
from fedmq.brokers.rabbitmq import queues as terms
from fedmq.errors import ConfigError, FedMQError, NotFound, ProtocolError
from fedmq_schemas.topology import Queue

log = logging.getLogger("fedmq.brokers.rabbitmq.broker")

WINDOW = 1_000
AGAIN_AFTER = 0.5
MOST_LOGGED = 100
"""Different refusals of messages that are logged. A peer's name may be in each."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A message to send. `done` is called on the link's thread; without it the message is sent at most once."""

    message: Outgoing
    done: Callable[[FedMQError | None], None] | None
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deletion:
    """A queue to delete."""

    queue_name: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A point between items. `done` is called on the link's thread once RabbitMQ has performed what is before it."""

    done: Callable[[], None]


class Publisher:
    """Sends declarations, deletions and messages, on the link's thread.

    - `user`: the account, which RabbitMQ verifies for each message.
    - `later`: starts a timer of the link.
    - `fail`: reports an error that retrying does not mend.
    - `idle`: called whenever nothing is left to send or to be confirmed.
    """

    def __init__(
        self,
        user: str,
        later: Callable[[float, Callable[[], None]], object],
        fail: Callable[[FedMQError], None],
        idle: Callable[[], None],
    ) -> None:
        self._user = user
        self._later = later
        self._fail = fail
        self._idle = idle
        self._outbox: deque[Sending | Queue | Deletion | Declared] = deque()
        self._awaited: Declared | None = None
        self._ready: Declared | None = None
        """The point at which the queues of the channel are declared, until it is reached."""
        self._declared: dict[str, Queue] = {}
        self._exchanges: set[str] = set()
        self._channel: Channel | None = None
        self._unconfirmed: dict[int, Sending] = {}
        self._sent = 0
        self._confirmed_up_to = 0
        self._returned: set[tuple[str | None, str | None, str | None]] = set()
        self._logged: set[str] = set()

    def put(self, item: Sending | Queue | Deletion | Declared) -> None:
        """Sends the item after all earlier ones."""
        self._outbox.append(item)
        self._send()

    def declared(self, queue_name: str) -> Queue | None:
        """Returns the queue of that name, if this connection declares it."""
        return self._declared.get(queue_name)

    def is_idle(self) -> bool:
        """Returns whether nothing is left to send or to be confirmed."""
        return not self._outbox and not self._unconfirmed

    def forget(self) -> None:
        """Drops everything that is not confirmed."""
        self._outbox.clear()
        self._unconfirmed.clear()

    def open(self, connection: Connection, ready: Callable[[], None]) -> None:
        """Opens the channel, declares all queues again, calls `ready`, and sends again what is unconfirmed.

        `ready` is not called if the connection is lost before.
        """
        self._drop_ready()
        point = self._ready = Declared(ready)

        def selected(channel: Channel) -> None:
            self._channel = channel
            self._sent = self._confirmed_up_to = 0
            self._exchanges.clear()
            for queue in self._declared.values():
                terms.declare(channel, queue, self._exchanges)
            self._outbox.appendleft(point)
            self._send()

        def opened(channel: Channel) -> None:
            channel.add_on_close_callback(lambda _, reason: self._on_closed(connection, reason))
            channel.add_on_return_callback(self._on_returned)
            channel.confirm_delivery(self._on_confirmed, lambda _: selected(channel))

        connection.channel(on_open_callback=opened)

    def lose(self) -> None:
        """Notes that the channel is lost: unconfirmed messages return to the front of the outbox, in order."""
        self._channel = None
        if self._awaited is not None:
            self._outbox.appendleft(self._awaited)
            self._awaited = None
        self._outbox.extendleft(item for item in reversed(self._unconfirmed.values()) if item.done is not None)
        self._unconfirmed.clear()
        self._returned.clear()

    def _drop_ready(self) -> None:
        if self._ready is not None and self._ready in self._outbox:
            self._outbox.remove(self._ready)
        self._ready = None

    def _send(self) -> None:
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        while self._outbox and self._awaited is None and len(self._unconfirmed) < WINDOW:
            item = self._outbox.popleft()
            if isinstance(item, Sending):
                self._publish(channel, item)
            elif isinstance(item, Queue):
                self._declared[item.name] = item
                terms.declare(channel, item, self._exchanges)
            elif isinstance(item, Declared):
                self._await(channel, item)
            else:
                self._declared.pop(item.queue_name, None)
                channel.queue_delete(item.queue_name)
        if self.is_idle():
            self._idle()

    def _await(self, channel: Channel, item: Declared) -> None:
        """Sends nothing more until RabbitMQ has answered: pika would send publishes ahead of declarations meanwhile."""
        self._awaited = item

        def answered(_: object) -> None:
            if self._awaited is item:
                self._awaited = None
                if item is self._ready:
                    self._ready = None
                item.done()
                self._send()

        # A channel's methods are performed in order. This one changes nothing, is answered, and needs no permission.
        channel.basic_qos(callback=answered)

    def _publish(self, channel: Channel, item: Sending) -> None:
        message = item.message
        try:
            channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                BasicProperties(
                    content_type=message.content_type,
                    message_id=message.message_id,
                    user_id=self._user,
                    delivery_mode=DeliveryMode.Transient if item.done is None else DeliveryMode.Persistent,
                    expiration=None if message.expiration is None else str(round(message.expiration * 1000)),
                    headers=dict(item.headers) or None,
                ),
                mandatory=message.mandatory,
            )
        except (ShortStringTooLong, ValueError, OverflowError) as error:
            # pika encodes the whole message before it sends a byte. What a peer wrote must not end this thread.
            self._fail_alone(item, error)
            return
        self._sent += 1
        self._unconfirmed[self._sent] = item

    def _fail_alone(self, item: Sending, error: Exception) -> None:
        address = f"{item.message.exchange} {item.message.routing_key}"
        refusal = ProtocolError(f"AMQP can't carry the message to {address}: {type(error).__name__}: {error}")
        if item.done is not None:
            item.done(refusal)
        else:
            log.warning("a message was not published: %s", refusal.reason)

    def _on_returned(self, _: Channel, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        # RabbitMQ sends this before the confirm of the same message.
        self._returned.add((method.exchange, method.routing_key, properties.message_id))

    def _on_confirmed(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        method = frame.method
        last: int = method.delivery_tag
        for sequence in range(self._confirmed_up_to + 1 if method.multiple else last, last + 1):
            item = self._unconfirmed.pop(sequence, None)
            if item is not None:
                self._settle(item, isinstance(method, Basic.Nack))
        if method.multiple or last == self._confirmed_up_to + 1:
            self._confirmed_up_to = last
        self._send()

    def _settle(self, item: Sending, refused: bool) -> None:
        if item.done is None:
            return
        if refused:
            # RabbitMQ can't store it now, for example while a queue has no leader.
            self._later(AGAIN_AFTER, lambda: self.put(item))
            return
        message = item.message
        key = (message.exchange, message.routing_key, message.message_id)
        if message.mandatory and key in self._returned:
            self._returned.discard(key)
            item.done(NotFound(f"no queue receives {message.routing_key} of {message.exchange}"))
        else:
            item.done(None)

    def _on_closed(self, connection: Connection, reason: BaseException) -> None:
        if not isinstance(reason, ChannelClosedByBroker):
            return  # closed with the connection, whose own callback follows
        mended = self._take_out_culprit(reason.reply_code, reason.reply_text)
        self.lose()
        self._later(0.0 if mended else AGAIN_AFTER, lambda: self._reopen(connection))

    def _reopen(self, connection: Connection) -> None:
        if connection.is_open and self._channel is None:
            self.open(connection, (lambda: None) if self._ready is None else self._ready.done)

    def _take_out_culprit(self, code: int, text: str) -> bool:
        """Removes what RabbitMQ refused, and reports it. Returns False if that is unknown, or if retrying may mend it."""
        about = terms.subject(text)
        if code == terms.RESOURCE_LOCKED:
            return False  # an exclusive queue of our own last connection, whose end RabbitMQ has not noticed yet
        if about.queue is None and about.exchange is not None and self._refuse_messages(code, text, about):
            return True
        names = [
            queue.name
            for queue in self._declared.values()
            if queue.name == about.queue or (about.queue is None and about.exchange in terms.exchanges(queue))
        ]
        for name in names:
            del self._declared[name]
        self._fail(_explain(code, text, about))
        return bool(names)

    def _refuse_messages(self, code: int, text: str, about: terms.Subject) -> bool:
        error: FedMQError = ConfigError(f"RabbitMQ refuses to publish: {text}: `fedmq doctor ROLE` names the remedy")
        if code == terms.NOT_FOUND:
            error = NotFound(f"there is no exchange {about.exchange}: start the reducer first")
        refused = [
            (sequence, item)
            for sequence, item in self._unconfirmed.items()
            if item.message.exchange == about.exchange and about.routing_key in (None, item.message.routing_key)
        ]
        for sequence, item in refused:
            del self._unconfirmed[sequence]
            if item.done is not None:
                item.done(error)
        if isinstance(error, ConfigError) and any(item.done is None for _, item in refused):
            self._log_once(error)
        return bool(refused)

    def _log_once(self, error: FedMQError) -> None:
        """Reports the refusal of a message that nobody awaits. Any peer's message can lead to an event that is refused."""
        if error.reason not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(error.reason)
            log.error(error.reason)


def _explain(code: int, text: str, about: terms.Subject) -> ConfigError:
    if code == terms.PRECONDITION_FAILED and about.queue is not None:
        return ConfigError(
            f"queue {about.queue} exists with other arguments: delete it once it is empty, "
            f"or run the version that made it ({text})"
        )
    return ConfigError(f"RabbitMQ refuses: {text}")
