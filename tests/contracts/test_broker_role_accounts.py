"""The servers' accounts on a real RabbitMQ: each role does its work with its own account, and may do nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from contracts.worlds import Inbox, RabbitmqWorld, confirm_of
from fedmq.brokers.base import Connection
from fedmq.brokers.rabbitmq.administration import RabbitmqAdministration
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.brokers.rabbitmq.definitions import SALT_BYTES, definitions
from fedmq.errors import FedMQError
from fedmq_schemas.role_accounts import ROLES, Role, role_account
from fedmq_schemas.topology import Topology
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system

ADMINISTRATOR = "chief"


@pytest.fixture
def world(rabbitmq_world: RabbitmqWorld) -> RabbitmqWorld:
    return rabbitmq_world


@pytest.fixture
def url_of(world: RabbitmqWorld, rabbitmq_server: RabbitmqServer) -> Iterator[Callable[[str], str]]:
    """Imports the definitions of the alliance, as RabbitMQ does at its start. Returns the URL of an account of them."""
    names = [ADMINISTRATOR, *(role_account(world.topology, role) for role in ROLES)]
    passwords = {name: f"password of {name}" for name in names}
    salts = {name: name.encode().ljust(SALT_BYTES, b"x")[-SALT_BYTES:] for name in names}
    rabbitmq_server.manage("POST", "definitions", definitions(world.topology, ADMINISTRATOR, passwords, salts))

    def url(name: str) -> str:
        return f"amqp://{name}:{passwords[name].replace(' ', '%20')}@127.0.0.1:{rabbitmq_server.port}/"

    yield url
    for name in names:
        rabbitmq_server.manage("DELETE", f"users/{name}")


@pytest.fixture
def connect(world: RabbitmqWorld, url_of: Callable[[str], str]) -> Iterator[Callable[[Role], Connection]]:
    opened: list[Connection] = []
    errors: list[FedMQError] = []

    def open_as(role: Role) -> Connection:
        connection = RabbitmqBroker(url_of(role_account(world.topology, role)), world.scheduler).connect(role)
        connection.on_error = errors.append
        opened.append(connection)
        return connection

    yield open_as
    for each in opened:
        each.kill()
    assert errors == []


def test_each_role_does_its_work_with_its_own_account(
    world: RabbitmqWorld, connect: Callable[[Role], Connection]
) -> None:
    topology = world.topology
    reducer, combiner, dashboard = connect("reducer"), connect("combiner"), connect("dashboard")
    own = [topology.reducer(), topology.records(), topology.dead()]
    for queue in (*own, topology.client("c1"), topology.observer("page")):
        reducer.declare(queue)
    for queue in (topology.combiner("k1"), topology.dead()):
        combiner.declare(queue)
    dashboard.declare(topology.observer("shown"))
    inboxes = {}
    for connection, queue in (
        *((reducer, queue) for queue in (topology.reducer(), topology.records(), topology.observer("page"))),
        (combiner, topology.combiner("k1")),
        (dashboard, topology.observer("shown")),
    ):
        inboxes[queue.name] = Inbox(connection)
        connection.consume(queue.name, 0, inboxes[queue.name])
    published = [
        (reducer, "control", "control.start"),
        (reducer, "assignment", "assignment.c1"),
        (reducer, "task", "plan.k1"),
        (reducer, "event", "event.s1.round.planned"),
        (combiner, "assignment", "assignment.reducer.k1"),
        (combiner, "task", "task.c1"),
        (combiner, "update", "update.reducer.k1"),
        (combiner, "event", "event.s1.update.accepted"),
    ]
    for connection, exchange, key in published:
        assert confirm_of(world, connection, exchange, key) is None, (exchange, key)
    counts = {topology.reducer().name: 3, topology.records().name: 2, topology.combiner("k1").name: 1}
    world.until(lambda: all(len(inboxes[name].ids) == count for name, count in counts.items()))
    world.until(lambda: len(inboxes[topology.observer("shown").name].ids) == 2)
    users = {each.user for inbox in inboxes.values() for each in inbox.deliveries}
    assert users == {role_account(topology, "reducer"), role_account(topology, "combiner")}
    reducer.delete(topology.combiner("k1").name)
    world.rest()


def test_a_refused_message_becomes_a_dead_letter_of_its_role(
    world: RabbitmqWorld, connect: Callable[[Role], Connection]
) -> None:
    reducer, combiner = connect("reducer"), connect("combiner")
    for connection, queue in ((reducer, world.topology.reducer()), (combiner, world.topology.combiner("k1"))):
        connection.declare(queue)
        connection.declare(world.topology.dead())
    letters = Inbox(reducer)
    reducer.consume(world.topology.dead().name, 0, letters)
    for connection, queue, exchange, key in (
        (reducer, world.topology.reducer(), "assignment", "assignment.reducer.k1"),
        (combiner, world.topology.combiner("k1"), "task", "plan.k1"),
    ):
        inbox = Inbox(connection, acking=False)
        connection.consume(queue.name, 0, inbox)
        assert confirm_of(world, reducer if exchange == "task" else combiner, exchange, key) is None
        world.until(lambda inbox=inbox: inbox.ids == ["m"])  # type: ignore[misc]
        connection.reject(inbox.tags[0], "cannot be read")
    world.until(lambda: len(letters.ids) == 2)


@pytest.mark.parametrize("role", ["reducer", "combiner", "dashboard"])
def test_the_doctor_finds_each_roles_account_sufficient(
    world: RabbitmqWorld,
    url_of: Callable[[str], str],
    connect: Callable[[Role], Connection],
    rabbitmq_server: RabbitmqServer,
    role: Role,
) -> None:
    reducer = connect("reducer")
    reducer.declare(world.topology.reducer())
    reducer.declare(world.topology.records())
    assert confirm_of(world, reducer, "event", "event.s1.round.planned") is None
    version = RabbitmqAdministration(url_of(role_account(world.topology, role))).probe(world.topology)
    assert version == rabbitmq_server.manage("GET", "overview")["rabbitmq_version"]


FORBIDDEN: dict[tuple[Role, str], Callable[[BlockingChannel, Topology], Any]] = {
    ("reducer", "read a client's mailbox"): lambda channel, t: channel.basic_get(t.client("c1").name),
    ("reducer", "declare another alliance's queue"): lambda channel, _: channel.queue_declare("other.reducer.v1"),
    ("combiner", "read the reducer's inbox"): lambda channel, t: channel.basic_get(t.reducer().name),
    ("combiner", "read the records"): lambda channel, t: channel.basic_get(t.records().name),
    ("combiner", "read a client's mailbox"): lambda channel, t: channel.basic_get(t.client("c1").name),
    ("combiner", "read dead letters"): lambda channel, t: channel.basic_get(t.dead().name),
    ("combiner", "delete the reducer's inbox"): lambda channel, t: channel.queue_delete(t.reducer().name),
    ("combiner", "purge a client's mailbox"): lambda channel, t: channel.queue_purge(t.client("c1").name),
    ("combiner", "start a session"): lambda channel, t: publish(channel, t, "control", "control.start"),
    ("combiner", "publish a plan"): lambda channel, t: publish(channel, t, "task", "plan.k1"),
    ("combiner", "grant a client"): lambda channel, t: publish(channel, t, "assignment", "assignment.c1"),
    ("combiner", "listen to tasks"): lambda channel, t: channel.queue_bind(
        t.combiner("k1").name, t.exchange("task"), "task.#"
    ),
    ("combiner", "listen to events"): lambda channel, t: channel.queue_bind(
        t.combiner("k1").name, t.exchange("event"), "#"
    ),
    ("dashboard", "publish an event"): lambda channel, t: publish(channel, t, "event", "event.s1.round.planned"),
    ("dashboard", "start a session"): lambda channel, t: publish(channel, t, "control", "control.start"),
    ("dashboard", "read the records"): lambda channel, t: channel.basic_get(t.records().name),
    ("dashboard", "delete an inbox"): lambda channel, t: channel.queue_delete(t.combiner("k1").name),
    ("monitor", "listen to events"): lambda channel, t: channel.queue_declare(t.observer("y").name, exclusive=True),
    ("monitor", "read dead letters"): lambda channel, t: channel.basic_get(t.dead().name),
    ("dashboard", "listen to updates"): lambda channel, t: channel.queue_bind(
        t.observer("x").name, t.exchange("update"), "#"
    ),
}


def publish(channel: BlockingChannel, topology: Topology, exchange: str, key: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish(topology.exchange(exchange), key, b"")


@pytest.mark.parametrize(("role", "what"), FORBIDDEN, ids=lambda text: text.replace(" ", "-"))
def test_a_role_may_do_nothing_else(
    world: RabbitmqWorld,
    url_of: Callable[[str], str],
    connect: Callable[[Role], Connection],
    role: Role,
    what: str,
) -> None:
    topology = world.topology
    reducer = connect("reducer")
    for queue in (
        topology.reducer(),
        topology.records(),
        topology.dead(),
        topology.client("c1"),
        topology.combiner("k1"),
    ):
        reducer.declare(queue)
    assert confirm_of(world, reducer, "event", "event.s1.round.planned") is None
    with pika.BlockingConnection(pika.URLParameters(url_of(role_account(topology, role)))) as own:
        channel = own.channel()
        if role == "dashboard":
            channel.queue_declare(topology.observer("x").name, exclusive=True)
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            FORBIDDEN[role, what](channel, topology)
