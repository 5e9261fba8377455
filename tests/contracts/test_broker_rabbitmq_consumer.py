"""The RabbitMQ adapter's consumer on a channel that only records."""

from __future__ import annotations

from typing import cast

from pika import BasicProperties
from pika.connection import Connection
from pika.spec import Basic

from contracts.channels import Wire, open_consumer
from fedmq.brokers.base import Delivery
from fedmq.brokers.rabbitmq.consumer import ChannelConsumer
from fedmq.brokers.rabbitmq.link import Link
from fedmq_schemas.topology import Topology

TOPOLOGY = Topology("a")


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
