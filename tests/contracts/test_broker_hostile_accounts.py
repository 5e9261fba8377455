"""What one client's account publishes on a real RabbitMQ ends nobody's process, and stops nobody's inbox."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import msgpack
import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from contracts.worlds import Inbox, RabbitmqWorld, confirm_of
from fedmq.brokers.base import Outgoing
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.brokers.rabbitmq.management import Management
from fedmq.codec import MSGPACK
from fedmq.errors import FedMQError
from fedmq.runtime.actor import Actor
from fedmq.runtime.effects import Ack, CoreEvent, Effect, Now, Received
from fedmq.runtime.event_stream import decode_events
from fedmq_schemas.messages import Event, Wait
from fedmq_schemas.topology import assignment_key, assignment_request_key
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system

HOSTILE, VICTIM = "c-hostile", "c-victim"
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


class Core:
    """Acknowledges what it receives."""

    def __init__(self) -> None:
        self.received: list[str] = []

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        if not isinstance(event, Received):
            return ()
        self.received.append(event.envelope.id)
        return [Ack((event.tag,))]


@pytest.fixture
def world(rabbitmq_world: RabbitmqWorld) -> RabbitmqWorld:
    return rabbitmq_world


@pytest.fixture
def url_of(world: RabbitmqWorld, rabbitmq: RabbitmqServer) -> Iterator[Callable[[str], str]]:
    """Creates an account, and returns the URL with it."""
    accounts = RabbitmqAccounts(Management(rabbitmq.url, rabbitmq.management_url), world.topology)
    yield lambda name: f"amqp://{name}:{accounts.add(name)}@127.0.0.1:{rabbitmq.port}/"
    for name in accounts.names():
        accounts.revoke(name)


def packed(kind: str, message_id: str, body: object, sender: str) -> bytes:
    data: bytes = msgpack.packb({"kind": kind, "id": message_id, "sender": sender, "body": body})
    return data


def publish(world: RabbitmqWorld, url: str, key: str, body: bytes, properties: pika.BasicProperties) -> bool:
    """Returns whether RabbitMQ has accepted the message."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish(world.topology.exchange("assignment"), key, body, properties)
        except ChannelClosedByBroker as error:
            if error.reply_code != 403:
                raise
            return False
    return True


@pytest.mark.parametrize("way", ["CC", "the servers"])
def test_a_start_in_another_clients_mailbox_does_not_end_that_client(
    world: RabbitmqWorld, url_of: Callable[[str], str], way: str
) -> None:
    """The client published that the session was refused, which its account may not do, and ended within 4 s."""
    topology = world.topology
    server_side = world.connect("reducer.r1")
    events: list[Event] = []
    for queue in (topology.reducer(), topology.client(VICTIM), topology.dead(), topology.records()):
        server_side.declare(queue)
    server_side.consume(
        topology.records().name, 0, lambda each: events.extend(decode_events(each, topology.alliance)[1])
    )
    assert confirm_of(world, server_side, "assignment", "assignment.reducer.x") is None
    core = Core()
    connection = RabbitmqBroker(url_of(VICTIM), world.scheduler).connect("client")
    errors: list[FedMQError] = []
    connection.on_error = errors.append
    actor = Actor(
        VICTIM,
        core,
        connection,
        world.scheduler,
        topology,
        inbox=topology.client(VICTIM),
        declare_inbox=False,
        new_id=map(str, range(100)).__next__,
        is_addressed_by_servers=True,
    )
    actor.start()
    start = packed("start", "s1", {"policy": {"rounds": -1}}, HOSTILE)
    own, others = assignment_request_key(HOSTILE), assignment_key(VICTIM)
    properties = pika.BasicProperties(MSGPACK, user_id=HOSTILE, message_id="s1", headers={"CC": [others]})
    if way == "CC":
        if not publish(world, url_of(HOSTILE), own, start, properties):
            return  # RabbitMQ 4 checks CC
    else:
        server_side.publish(world_message(world, others, start))
    world.until(lambda: [event.name for event in events] == ["message.refused"])
    wait = Wait(seconds=1.0, reason="r")
    server_side.publish(world_message(world, others, packed("wait", "m2", wait.model_dump(), "reducer")))
    world.until(lambda: core.received == ["m2"])
    assert errors == []
    actor.leave(1.0)


def world_message(world: RabbitmqWorld, key: str, body: bytes) -> Outgoing:
    return Outgoing(world.topology.exchange("assignment"), key, body, "m")


class OddTime(pika.BasicProperties):
    """Has a header with a time of the year 36812."""

    def encode(self) -> list[bytes]:
        return [b"".join(super().encode()).replace(struct.pack(">Q", NOW), struct.pack(">Q", 2**40))]


def test_a_header_that_pika_can_not_decode_costs_no_connection(
    world: RabbitmqWorld, url_of: Callable[[str], str]
) -> None:
    """The connection was lost over it each time that RabbitMQ delivered the message."""
    topology = world.topology
    server_side = world.connect("reducer.r1")
    lost: list[None] = []
    server_side.on_reconnect = lambda: lost.append(None)
    server_side.declare(topology.reducer())
    inbox = Inbox(server_side)
    server_side.consume(topology.reducer().name, 0, inbox)
    assert confirm_of(world, server_side, "assignment", "assignment.reducer.x") is None
    world.until(lambda: inbox.ids == ["m"])
    headers = {"x": datetime.fromtimestamp(NOW, UTC)}
    odd = OddTime(MSGPACK, user_id=HOSTILE, message_id="odd", headers=headers)
    assert publish(world, url_of(HOSTILE), assignment_request_key(HOSTILE), b"body", odd)
    world.until(lambda: "odd" in inbox.ids)
    world.rest()
    assert inbox.ids == ["m", "odd"] and lost == []
    assert (inbox.deliveries[1].body, inbox.deliveries[1].user, inbox.deliveries[1].headers) == (b"body", HOSTILE, {})
