"""What only a real RabbitMQ can show: accounts, arguments as declared, death and return of the server."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from contracts.worlds import Confirms, Inbox, RabbitmqWorld, message
from fedmq.brokers.base import Connection
from fedmq.brokers.rabbitmq import RabbitmqBroker
from fedmq.errors import ConfigError, FedMQError, NotFound
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.topology import Permissions, client_permissions
from servers.proxy import Proxy
from servers.rabbitmq import RabbitmqServer


@pytest.fixture
def world(rabbitmq_server: RabbitmqServer) -> Iterator[RabbitmqWorld]:
    made = RabbitmqWorld(rabbitmq_server)
    yield made
    made.close()


def add_account(server: RabbitmqServer, name: str, permissions: Permissions) -> str:
    """Returns the URL of a new account."""
    server.manage("PUT", f"users/{name}", {"password": "secret", "tags": ""})
    server.manage(
        "PUT",
        f"permissions/%2F/{name}",
        {"configure": permissions.configure, "write": permissions.write, "read": permissions.read},
    )
    for exchange, pattern in permissions.topic_write.items():
        server.manage("PUT", f"topic-permissions/%2F/{name}", {"exchange": exchange, "write": pattern, "read": "^$"})
    return f"amqp://{name}:secret@127.0.0.1:{server.port}/"


def confirm_of(world: RabbitmqWorld, connection: Connection, exchange: str, key: str) -> FedMQError | None:
    confirms: Confirms = []
    connection.publish(message(world.topology, exchange, key, "m", mandatory=True), confirms.append)
    world.until(lambda: bool(confirms))
    return confirms[0]


@pytest.mark.parametrize("url", ["", "http://host", "amqp://host:port/", "amqp://host:1/?heartbeat=x"])
def test_a_url_that_cannot_be_read_is_a_config_error_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="FEDN_AMQP_URL"):
        RabbitmqBroker(url, VirtualScheduler())


@pytest.mark.system
def test_a_refused_account_is_reported_once_and_served_when_it_exists(
    world: RabbitmqWorld, rabbitmq_server: RabbitmqServer
) -> None:
    reducer = world.connect("reducer.r1")
    reducer.declare(world.topology.reducer())
    broker = RabbitmqBroker(f"amqp://late:secret@127.0.0.1:{rabbitmq_server.port}/", world.scheduler)
    connection = broker.connect("client.late")
    errors: list[FedMQError] = []
    connection.on_error = errors.append
    world.until(lambda: bool(errors))
    world.rest(1.0)
    assert len(errors) == 1
    assert isinstance(errors[0], ConfigError)
    assert "'late'" in errors[0].reason
    add_account(rabbitmq_server, "late", client_permissions(world.topology, "late"))
    assert confirm_of(world, connection, "assignment", "assignment.reducer.late") is None
    connection.close()


@pytest.mark.system
def test_a_vhost_that_is_absent_is_reported(world: RabbitmqWorld, rabbitmq_server: RabbitmqServer) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{rabbitmq_server.port}/hospital"
    connection = RabbitmqBroker(url, world.scheduler).connect("client.c1")
    errors: list[FedMQError] = []
    connection.on_error = errors.append
    world.until(lambda: bool(errors))
    assert "vhost 'hospital'" in errors[0].reason
    connection.kill()


@pytest.mark.system
def test_a_server_that_is_away_at_first_is_waited_for(world: RabbitmqWorld, rabbitmq_server: RabbitmqServer) -> None:
    proxy = Proxy(rabbitmq_server.port)
    proxy.down()
    broker = RabbitmqBroker(f"amqp://guest:guest@127.0.0.1:{proxy.port}/", world.scheduler)
    connection = broker.connect("reducer.r1")
    reconnects: list[bool] = []
    connection.on_reconnect = lambda: reconnects.append(True)
    connection.declare(world.topology.client("c1"))
    confirms: Confirms = []
    connection.publish(message(world.topology, "task", "task.c1", "m1", mandatory=True), confirms.append)
    world.rest()
    assert confirms == []
    proxy.up()
    world.until(lambda: confirms == [None])
    assert reconnects == []
    connection.close()
    proxy.close()


@pytest.mark.system
def test_a_client_account_speaks_only_as_itself_and_reads_only_its_mailbox(
    world: RabbitmqWorld, rabbitmq_server: RabbitmqServer
) -> None:
    topology = world.topology
    server_side = world.connect("reducer.r1")
    inboxes = {}
    for name in ("c1", "c2"):
        server_side.declare(topology.client(name))
    for queue in (topology.reducer(), topology.combiner("k1")):
        server_side.declare(queue)
        inboxes[queue.name] = Inbox(server_side)
        server_side.consume(queue.name, 0, inboxes[queue.name])
    assert confirm_of(world, server_side, "task", "task.c1") is None
    url = add_account(rabbitmq_server, "c1", client_permissions(topology, "c1"))
    client = RabbitmqBroker(url, world.scheduler).connect("client.c1")
    errors: list[FedMQError] = []
    client.on_error = errors.append

    mailbox = Inbox(client)
    client.consume(topology.client("c1").name, 0, mailbox)
    world.until(lambda: mailbox.ids == ["m"])
    assert confirm_of(world, client, "assignment", "assignment.reducer.c1") is None
    assert confirm_of(world, client, "update", "update.k1.c1") is None
    for exchange, key in [("assignment", "assignment.reducer.c2"), ("update", "update.k1.c2"), ("task", "task.c2")]:
        assert isinstance(confirm_of(world, client, exchange, key), ConfigError)
    assert confirm_of(world, client, "update", "update.k1.c1") is None
    assert errors == []
    world.until(lambda: len(inboxes[topology.combiner("k1").name].ids) == 2)
    assert {each.user for inbox in inboxes.values() for each in inbox.deliveries} == {"c1"}

    client.consume(topology.client("c2").name, 0, Inbox(client))
    world.until(lambda: bool(errors))
    client.declare(topology.observer("spy"))
    world.until(lambda: len(errors) == 2)
    assert all(isinstance(error, ConfigError) for error in errors)
    world.rest(1.0)
    assert len(errors) == 2, "each cause is reported once"
    assert confirm_of(world, client, "update", "update.k1.c1") is None
    client.close()


@pytest.mark.system
def test_a_reject_without_the_right_to_publish_dead_letters_is_not_delivered_for_ever(
    world: RabbitmqWorld, rabbitmq_server: RabbitmqServer
) -> None:
    server_side = world.connect("reducer.r1")
    queue = world.topology.client("c3")
    server_side.declare(queue)
    server_side.declare(world.topology.dead())
    assert confirm_of(world, server_side, "task", "task.c3") is None
    url = add_account(rabbitmq_server, "c3", client_permissions(world.topology, "c3"))
    client = RabbitmqBroker(url, world.scheduler).connect("client.c3")
    mailbox = Inbox(client, acking=False)
    client.consume(queue.name, 0, mailbox)
    world.until(lambda: mailbox.ids == ["m"])
    client.reject(mailbox.tags[0], "cannot be read")
    world.rest(1.0)
    client.close()
    again = Inbox(server_side)
    server_side.consume(queue.name, 0, again)
    world.rest()
    assert (mailbox.ids, again.ids) == (["m"], [])


@pytest.mark.system
def test_revoking_an_account_cuts_its_live_connection(world: RabbitmqWorld, rabbitmq_server: RabbitmqServer) -> None:
    server_side = world.connect("reducer.r1")
    server_side.declare(world.topology.reducer())
    assert confirm_of(world, server_side, "control", "control.start") is None
    url = add_account(rabbitmq_server, "c4", client_permissions(world.topology, "c4"))
    client = RabbitmqBroker(url, world.scheduler).connect("client.c4")
    errors: list[FedMQError] = []
    client.on_error = errors.append
    assert confirm_of(world, client, "assignment", "assignment.reducer.c4") is None
    rabbitmq_server.manage("DELETE", "users/c4")
    world.until(lambda: bool(errors))
    assert "'c4'" in errors[0].reason
    client.kill()


@pytest.mark.system
def test_queues_are_declared_as_rabbitmq_4_wants_them(world: RabbitmqWorld, rabbitmq_server: RabbitmqServer) -> None:
    topology = world.topology
    connection = world.connect("reducer.r1")
    for queue in (topology.reducer(), topology.client("c1"), topology.dead(), topology.observer("o1")):
        connection.declare(queue)
    assert confirm_of(world, connection, "task", "task.c1") is None

    def declared(name: str) -> tuple[bool, bool, dict[str, object]]:
        queue = rabbitmq_server.manage("GET", f"queues/%2F/{quote(name)}")
        return queue["durable"], queue["exclusive"], queue["arguments"]

    assert declared(topology.reducer().name) == (
        True,
        False,
        {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-single-active-consumer": True},
    )
    assert declared(topology.client("c1").name) == (
        True,
        False,
        {"x-queue-type": "classic", "x-expires": 604_800_000},
    )
    assert declared(topology.dead().name)[2] == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000_000,
        "x-max-length": 100_000,
        "x-overflow": "drop-head",
    }
    assert declared(topology.observer("o1").name) == (
        False,
        True,
        {"x-queue-type": "classic", "x-max-length": 10_000, "x-overflow": "drop-head"},
    )


@pytest.mark.system
def test_connections_bear_the_name_of_their_actor(world: RabbitmqWorld, rabbitmq_server: RabbitmqServer) -> None:
    connection = world.connect("combiner.named")
    assert isinstance(confirm_of(world, connection, "nowhere", "x"), NotFound)

    def is_listed() -> bool:
        listed = rabbitmq_server.manage("GET", "connections")
        return any(each.get("client_properties", {}).get("connection_name") == "combiner.named" for each in listed)

    world.until(is_listed)


@pytest.mark.system
def test_what_was_confirmed_survives_a_power_cut_and_all_connections_return(
    world: RabbitmqWorld, rabbitmq_server: RabbitmqServer
) -> None:
    topology = world.topology
    sender, receiver = world.connect("reducer.r1"), world.connect("combiner.k1")
    quorum, classic = topology.combiner("k1"), topology.client("c1")
    for queue in (quorum, classic):
        sender.declare(queue)
    confirms: Confirms = []
    for number in range(100):
        sender.publish(message(topology, "task", "plan.k1", f"p{number}"), confirms.append)
        sender.publish(message(topology, "task", "task.c1", f"t{number}"), confirms.append)
    inbox, mailbox = Inbox(receiver), Inbox(receiver)
    receiver.consume(quorum.name, 10, inbox)
    inbox.acking = False
    world.until(lambda: len(confirms) == 200 and len(inbox.ids) == 10)
    back: list[str] = []
    sender.on_reconnect = lambda: back.append("sender")
    receiver.on_reconnect = lambda: back.append("receiver")
    # RabbitMQ 3.10 never finds a leader again for a quorum queue that was made within a second of the cut.
    world.rest(2.0)
    rabbitmq_server.kill()
    inbox.deliveries.clear()
    inbox.acking = True
    receiver.consume(classic.name, 0, mailbox)
    rabbitmq_server.start()
    world.until(lambda: len(inbox.ids) == 100 and len(mailbox.ids) == 100)
    assert inbox.ids == [f"p{number}" for number in range(100)]
    assert mailbox.ids == [f"t{number}" for number in range(100)]
    world.until(lambda: sorted(back) == ["receiver", "sender"])
