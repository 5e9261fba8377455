"""A channel and a connection that only record, for the RabbitMQ adapter's consumer and publisher."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Header
from pika.spec import Basic

from fedmq.brokers.base import Outgoing
from fedmq.brokers.rabbitmq.consumer import ChannelConsumer, Held
from fedmq.brokers.rabbitmq.link import Link
from fedmq.brokers.rabbitmq.publisher import Publisher, Sending
from fedmq.errors import FedMQError
from fedmq_schemas.topology import Queue


class Listener:
    """A channel that opens at once and records its calls, as (method, main argument). `answers`: at once, or by `answer`."""

    def __init__(self, answers: bool = True) -> None:
        self.is_open = True
        self.answers = answers
        self.calls: list[tuple[str, Any]] = []
        self.callbacks: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def note(*args: Any, **options: Any) -> str:
            if method == "basic_publish":
                Header(1, len(args[2]), args[3]).marshal()  # as pika does first of all
            self.calls.append((method, args[0] if args else options))
            if method.startswith("add_on_"):
                self.callbacks[method] = args[0]
            if method == "basic_consume":
                self.callbacks["message"] = args[1]
            if method == "confirm_delivery":
                self.callbacks["confirm"] = args[0]
                args[1](None)
            if method == "basic_qos" and "callback" in options:
                self.callbacks["answer"] = options["callback"]
                if self.answers:
                    self.answer()
            if method == "basic_ack":
                self.calls[-1] = (method, (args[0], options.get("multiple", False)))
            return "tag"

        return note

    def called(self, method: str) -> list[Any]:
        return [what for each, what in self.calls if each == method]

    def deliver(self, delivery_tag: int) -> None:
        method = Basic.Deliver("tag", delivery_tag, False, "a.task", "plan.k1")
        self.callbacks["message"](self, method, BasicProperties(message_id=str(delivery_tag)), b"")

    def confirm(self, delivery_tag: int, multiple: bool = False, refused: bool = False) -> None:
        method = (Basic.Nack if refused else Basic.Ack)(delivery_tag, multiple)
        self.callbacks["confirm"](SimpleNamespace(method=method))

    def answer(self) -> None:
        self.callbacks["answer"](None)

    def refuse(self, code: int, text: str) -> None:
        self.is_open = False
        self.callbacks["add_on_close_callback"](self, ChannelClosedByBroker(code, text))


class Wire:
    """A connection whose channels are listeners, with the link's part for a consumer and its timers."""

    is_open = True

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.channels: list[Listener] = []
        self.timers: list[Callable[[], None]] = []
        self.delays: list[float] = []
        self.held: dict[int, Held] = {}
        self.next_tag = count(1)
        self.failures: list[FedMQError] = []
        self.voided = 0

    def channel(self, on_open_callback: Callable[[Channel], None]) -> None:
        self.channels.append(Listener(self.answers))
        on_open_callback(cast(Channel, self.channels[-1]))

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)
        self.delays.append(seconds)

    def pass_time(self) -> None:
        due, self.timers = self.timers, []
        for callback in due:
            callback()

    def declared(self, queue_name: str) -> Queue | None:
        return None

    def fail(self, error: FedMQError) -> None:
        self.failures.append(error)

    def deliveries_voided(self) -> None:
        self.voided += 1


def open_consumer(wire: Wire) -> tuple[ChannelConsumer, Listener]:
    consumer = ChannelConsumer(cast(Link, wire), "a.combiner.k1.v1", 100, lambda delivery: None)
    consumer.open(cast(Connection, wire))
    return consumer, wire.channels[-1]


def open_publisher(wire: Wire) -> tuple[Publisher, Listener]:
    publisher = Publisher("guest", wire.later, wire.fail, lambda: None)
    publisher.open(cast(Connection, wire), lambda: None)
    return publisher, wire.channels[-1]


def sending(message_id: str, done: Callable[[FedMQError | None], None] | None, exchange: str = "a.task") -> Sending:
    return Sending(Outgoing(exchange, "plan.k1", b"", message_id), done)


def published(channel: Listener) -> int:
    return len(channel.called("basic_publish"))
