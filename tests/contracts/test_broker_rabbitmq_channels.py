"""The RabbitMQ adapter's calls on a channel, and how it parses a refusal: shown on a channel that only records."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Header
from pika.spec import Basic

from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.rabbitmq.consumer import ChannelConsumer, Held
from fedmq.brokers.rabbitmq.link import Link
from fedmq.brokers.rabbitmq.publisher import WINDOW, Publisher, Sending
from fedmq.brokers.rabbitmq.queues import Subject, subject
from fedmq.errors import ConfigError, FedMQError, NotFound, ProtocolError
from fedmq_schemas.topology import Queue, Topology

TOPOLOGY = Topology("a")


class Listener:
    """A channel that opens at once and records its calls, as (method, main argument)."""

    def __init__(self) -> None:
        self.is_open = True
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

    def refuse(self, code: int, text: str) -> None:
        self.is_open = False
        self.callbacks["add_on_close_callback"](self, ChannelClosedByBroker(code, text))


class Wire:
    """A connection whose channels are listeners, with the link's part for a consumer and its timers."""

    is_open = True

    def __init__(self) -> None:
        self.channels: list[Listener] = []
        self.timers: list[Callable[[], None]] = []
        self.delays: list[float] = []
        self.held: dict[int, Held] = {}
        self.next_tag = count(1)
        self.failures: list[FedMQError] = []
        self.voided = 0

    def channel(self, on_open_callback: Callable[[Channel], None]) -> None:
        self.channels.append(Listener())
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


# Acks.


def test_acks_of_the_first_unsettled_become_one_and_others_are_sent_each() -> None:
    consumer, channel = open_consumer(Wire())
    for delivery_tag in range(1, 8):
        channel.deliver(delivery_tag)
    for delivery_tag in (3, 1, 2, 5, 7):
        consumer.ack(delivery_tag)
    consumer.flush()
    assert channel.called("basic_ack")[0] == (3, True)
    assert sorted(channel.called("basic_ack")[1:]) == [(5, False), (7, False)]
    consumer.ack(4)
    consumer.flush()
    assert channel.called("basic_ack")[3:] == [(4, False)]
    consumer.ack(6)
    consumer.flush()
    consumer.flush()
    assert channel.called("basic_ack")[4:] == [(6, False)]


def test_a_held_message_at_the_front_is_never_acked_with_those_behind_it() -> None:
    consumer, channel = open_consumer(Wire())
    for delivery_tag in range(1, 50):
        channel.deliver(delivery_tag)
    for delivery_tag in range(2, 50):
        consumer.ack(delivery_tag)
    consumer.flush()
    assert not any(multiple for _, multiple in channel.called("basic_ack"))
    assert len(channel.called("basic_ack")) == 48


def test_a_channel_that_rabbitmq_closes_voids_its_deliveries_and_is_opened_again() -> None:
    wire = Wire()
    consumer, channel = open_consumer(wire)
    channel.deliver(1)
    assert list(wire.held) == [1]
    channel.refuse(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out")
    assert wire.held == {}
    assert wire.voided == 1
    wire.pass_time()
    consumer.ack(1)
    wire.channels[-1].deliver(1)
    assert list(wire.held) == [2], "tags are never used again"


def test_an_absent_queue_is_tried_again_without_any_report() -> None:
    wire = Wire()
    open_consumer(wire)[1].refuse(404, "NOT_FOUND - no queue 'a.combiner.k1.v1' in vhost '/'")
    wire.pass_time()
    assert len(wire.channels) == 2
    assert wire.channels[-1].called("basic_consume") == ["a.combiner.k1.v1"]
    assert (wire.voided, wire.failures) == (0, [])


def test_a_retry_left_from_a_lost_connection_does_not_consume_twice() -> None:
    wire = Wire()
    consumer, channel = open_consumer(wire)
    channel.callbacks["add_on_cancel_callback"](None)
    consumer.lose()
    consumer.open(cast(Connection, wire))
    wire.pass_time()
    assert [len(each.called("basic_consume")) for each in wire.channels] == [1, 1]


# Confirms.


def test_no_more_than_the_window_is_unconfirmed() -> None:
    publisher, channel = open_publisher(Wire())
    for number in range(WINDOW + 10):
        publisher.put(sending(str(number), lambda error: None))
    assert published(channel) == WINDOW
    channel.confirm(4, multiple=True)
    assert published(channel) == WINDOW + 4
    channel.confirm(9)
    assert published(channel) == WINDOW + 5
    channel.confirm(WINDOW, multiple=True)
    assert published(channel) == WINDOW + 10


def test_a_message_that_rabbitmq_could_not_store_is_sent_again() -> None:
    wire = Wire()
    publisher, channel = open_publisher(wire)
    confirmed: list[FedMQError | None] = []
    publisher.put(sending("m", confirmed.append))
    channel.confirm(1, refused=True)
    assert confirmed == []
    wire.pass_time()
    assert published(channel) == 2
    channel.confirm(2)
    assert confirmed == [None]
    assert publisher.is_idle()


def test_a_refused_exchange_fails_its_messages_and_the_others_are_sent_again() -> None:
    wire = Wire()
    publisher, channel = open_publisher(wire)
    confirmed: dict[str, FedMQError | None] = {}
    publisher.put(sending("good", lambda error: confirmed.update(good=error)))
    publisher.put(sending("bad", lambda error: confirmed.update(bad=error), exchange="a.nowhere"))
    publisher.put(sending("unconfirmed", None))
    channel.refuse(404, "NOT_FOUND - no exchange 'a.nowhere' in vhost '/'")
    assert isinstance(confirmed.pop("bad"), NotFound)
    wire.pass_time()
    assert wire.channels[-1].called("basic_publish") == ["a.task"]
    wire.channels[-1].confirm(1)
    assert confirmed == {"good": None}
    assert wire.failures == []


def test_an_id_that_pika_can_not_encode_fails_its_message_and_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    publisher, channel = open_publisher(Wire())
    confirmed: dict[str, FedMQError | None] = {}
    publisher.put(sending("\N{PILE OF POO}" * 200, lambda error: confirmed.update(bad=error)))
    publisher.put(sending("\N{PILE OF POO}" * 200, None))
    publisher.put(sending("good", lambda error: confirmed.update(good=error)))
    channel.confirm(1)
    bad = confirmed.pop("bad")
    assert isinstance(bad, ProtocolError) and "a.task plan.k1" in bad.reason
    assert confirmed == {"good": None} and publisher.is_idle()
    assert ["a.task plan.k1" in each for each in caplog.messages] == [True]


def test_a_refused_message_that_nobody_awaits_is_logged_once_and_fails_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another's message can lead to it; reported as an error, it ended the process."""
    wire = Wire()
    publisher, _ = open_publisher(wire)
    for _ in range(3):
        publisher.put(sending("event", None, exchange="a.event"))
        wire.channels[-1].refuse(403, "ACCESS_REFUSED - access to exchange 'a.event' in vhost '/' refused for user 'c'")
        wire.pass_time()
    assert wire.failures == [] and publisher.is_idle()
    assert ["refused for user 'c'" in each for each in caplog.messages] == [True]


def test_a_refused_queue_is_not_declared_again_and_the_others_are() -> None:
    wire = Wire()
    publisher, channel = open_publisher(wire)
    good, bad = TOPOLOGY.client("good"), TOPOLOGY.client("bad")
    publisher.put(good)
    publisher.put(bad)
    channel.refuse(406, f"PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue '{bad.name}' in vhost '/'")
    wire.pass_time()
    assert wire.channels[-1].called("queue_declare") == [good.name]
    (error,) = wire.failures
    assert isinstance(error, ConfigError)
    assert bad.name in error.reason


def test_an_exclusive_queue_that_rabbitmq_still_holds_for_the_last_connection_is_tried_again() -> None:
    wire = Wire()
    publisher, channel = open_publisher(wire)
    queue = TOPOLOGY.observer("o1")
    publisher.put(queue)
    channel.refuse(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue.name}' in vhost '/'")
    assert wire.delays[-1] > 0.0
    wire.pass_time()
    assert wire.channels[-1].called("queue_declare") == [queue.name]
    assert wire.failures == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOT_FOUND - no exchange 'a.task' in vhost '/'", Subject(None, "a.task", None)),
        (
            "ACCESS_REFUSED - access to exchange 'a.task' in vhost '/' refused for user 'c'",
            Subject(None, "a.task", None),
        ),
        (
            "ACCESS_REFUSED - write access to exchange 'a.task' in vhost '/' refused for user 'c'",
            Subject(None, "a.task", None),
        ),
        (
            "ACCESS_REFUSED - access to topic 'task.c1' in exchange 'a.task' in vhost '/' refused for user 'c'",
            Subject(None, "a.task", "task.c1"),
        ),
        (
            "ACCESS_REFUSED - write access to topic 'task.c1' in exchange exchange 'a.task' in vhost '/' refused for ...",
            Subject(None, "a.task", "task.c1"),
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'a.q.v1' in vhost '/': received the value ...",
            Subject("a.q.v1", None, None),
        ),
        ("PRECONDITION_FAILED - something new", Subject(None, None, None)),
    ],
)
def test_the_texts_of_rabbitmq_3_and_4_name_the_culprit(text: str, expected: Subject) -> None:
    assert subject(text) == expected


def test_a_refusal_that_names_nothing_is_reported_and_all_is_sent_again() -> None:
    wire = Wire()
    publisher, channel = open_publisher(wire)
    confirmed: list[FedMQError | None] = []
    publisher.put(sending("m", confirmed.append))
    channel.refuse(406, "PRECONDITION_FAILED - something new")
    wire.pass_time()
    wire.channels[-1].confirm(1)
    assert confirmed == [None]
    assert "something new" in wire.failures[0].reason


def test_deliveries_of_foreign_publishers_may_lack_properties() -> None:
    wire, seen = Wire(), cast("list[Delivery]", [])
    ChannelConsumer(cast(Link, wire), "q", 0, seen.append).open(cast(Connection, wire))
    method = Basic.Deliver("tag", 1, False, "", "q")
    wire.channels[-1].callbacks["message"](None, method, BasicProperties(), b"{}")
    assert (seen[0].message_id, seen[0].content_type, seen[0].user, seen[0].headers) == ("", "", None, {})


def test_an_id_or_address_that_is_no_utf_8_is_delivered_as_text() -> None:
    wire, seen = Wire(), cast("list[Delivery]", [])
    ChannelConsumer(cast(Link, wire), "q", 0, seen.append).open(cast(Connection, wire))
    raw = cast(str, b"m\xff")  # as pika leaves it
    method = Basic.Deliver("tag", 1, False, "", raw)
    wire.channels[-1].callbacks["message"](None, method, BasicProperties(raw, message_id=raw), b"{}")
    assert {seen[0].message_id, seen[0].content_type, seen[0].routing_key} == {"m?"}
