"""The RabbitMQ adapter's publisher on a channel that only records, and how a refusal is parsed."""

from __future__ import annotations

from typing import cast

import pytest
from pika.connection import Connection

from contracts.channels import Wire, open_publisher, published, sending
from fedmq.brokers.rabbitmq.publisher import WINDOW, Declared, Publisher
from fedmq.brokers.rabbitmq.queues import Subject, subject
from fedmq.errors import ConfigError, FedMQError, NotFound, ProtocolError
from fedmq_schemas.topology import Topology

TOPOLOGY = Topology("a")


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


def test_nothing_passes_a_point_until_rabbitmq_has_performed_what_is_before_it() -> None:
    wire = Wire(answers=False)
    publisher, channel = open_publisher(wire)
    channel.answer()
    reached: list[str] = []
    publisher.put(TOPOLOGY.combiner("k1"))
    publisher.put(Declared(lambda: reached.append("first")))
    publisher.put(Declared(lambda: reached.append("second")))
    publisher.put(sending("m", None))
    assert (reached, published(channel)) == ([], 0)
    channel.answer()
    assert (reached, published(channel)) == (["first"], 0)
    channel.answer()
    assert (reached, published(channel)) == (["first", "second"], 1)


def test_a_point_whose_channel_was_lost_is_reached_once_and_after_the_declarations() -> None:
    wire = Wire(answers=False)
    publisher, channel = open_publisher(wire)
    channel.answer()
    reached: list[str] = []
    queue = TOPOLOGY.combiner("k1")
    publisher.put(queue)
    publisher.put(Declared(lambda: reached.append("point")))
    late = channel.callbacks["answer"]
    channel.refuse(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue.name}'")
    late(None)
    wire.pass_time()
    again = wire.channels[-1]
    assert (reached, again.called("queue_declare")) == ([], [queue.name])
    again.answer()
    again.answer()
    assert reached == ["point"]
    assert publisher.is_idle()


def test_connections_that_are_lost_before_they_are_ready_leave_nothing_to_send() -> None:
    wire = Wire(answers=False)
    publisher, _ = open_publisher(wire)
    ready: list[int] = []
    for number in range(20):
        publisher.lose()
        publisher.open(cast(Connection, wire), lambda number=number: ready.append(number))  # type: ignore[misc]
    publisher.put(sending("m", None))
    wire.channels[-1].answer()
    assert (ready, published(wire.channels[-1])) == ([19], 1)


def test_a_queue_that_is_refused_delays_the_connection_and_does_not_end_its_beginning() -> None:
    wire = Wire(answers=False)
    ready: list[str] = []
    publisher = Publisher("guest", wire.later, wire.fail, lambda: None)
    publisher.open(cast(Connection, wire), lambda: ready.append("ready"))
    for _ in range(3):
        wire.channels[-1].refuse(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'")
        wire.pass_time()
    wire.channels[-1].answer()
    assert ready == ["ready"] and publisher.is_idle()


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
