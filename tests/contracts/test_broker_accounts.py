"""Least privilege on a real RabbitMQ: the permissions of a client's account, and how it is created and revoked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from contracts.worlds import Inbox, RabbitmqWorld, confirm_of
from fedmq.brokers.base import CLIENT_LIMITS, AccountLimits
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.brokers.rabbitmq.management import Management
from fedmq.brokers.rabbitmq.probe import probe
from fedmq.errors import ConfigError, FedMQError, NotFound, ProtocolError
from fedmq.runtime.peers.sender_check import SenderCheck
from fedmq_schemas.messages import Envelope
from fedmq_schemas.topology import Topology
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system


@pytest.fixture
def world(rabbitmq_world: RabbitmqWorld) -> RabbitmqWorld:
    return rabbitmq_world


@pytest.fixture
def accounts(world: RabbitmqWorld, rabbitmq: RabbitmqServer) -> Iterator[RabbitmqAccounts]:
    made = open_accounts(rabbitmq, world.topology)
    yield made
    for name in made.names():
        made.revoke(name)


def open_accounts(server: RabbitmqServer, topology: Topology) -> RabbitmqAccounts:
    return RabbitmqAccounts(Management(server.url, server.management_url), topology)


def url_of(server: RabbitmqServer, name: str, password: str) -> str:
    return f"amqp://{name}:{password}@127.0.0.1:{server.port}/"


def test_a_refused_account_is_reported_once_and_served_when_it_exists(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
) -> None:
    reducer = world.connect("reducer.r1")
    reducer.declare(world.topology.reducer())
    broker = RabbitmqBroker(f"amqp://late:secret@127.0.0.1:{rabbitmq.port}/", world.scheduler)
    connection = broker.connect("client.late")
    errors: list[FedMQError] = []
    connection.on_error = errors.append
    world.until(lambda: bool(errors))
    world.rest(1.0)
    assert len(errors) == 1
    assert isinstance(errors[0], ConfigError)
    assert "'late'" in errors[0].reason
    accounts.add("late")
    rabbitmq.manage("PUT", "users/late", {"password": "secret", "tags": ""})
    assert confirm_of(world, connection, "assignment", "assignment.reducer.late") is None
    connection.close()


def test_a_client_account_speaks_only_as_itself_and_reads_only_its_mailbox(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
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
    url = url_of(rabbitmq, "c1", accounts.add("c1"))
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


def test_a_reject_without_the_right_to_publish_dead_letters_is_not_delivered_for_ever(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
) -> None:
    server_side = world.connect("reducer.r1")
    queue = world.topology.client("c3")
    server_side.declare(queue)
    server_side.declare(world.topology.dead())
    assert confirm_of(world, server_side, "task", "task.c3") is None
    url = url_of(rabbitmq, "c3", accounts.add("c3"))
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


def test_revoking_an_account_cuts_its_live_connection_and_removes_its_mailbox(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
) -> None:
    server_side = world.connect("reducer.r1")
    server_side.declare(world.topology.reducer())
    server_side.declare(world.topology.client("c4"))
    assert confirm_of(world, server_side, "task", "task.c4") is None
    url = url_of(rabbitmq, "c4", accounts.add("c4"))
    client = RabbitmqBroker(url, world.scheduler).connect("client.c4")
    errors: list[FedMQError] = []
    client.on_error = errors.append
    assert confirm_of(world, client, "assignment", "assignment.reducer.c4") is None
    assert accounts.revoke("c4")
    world.until(lambda: bool(errors))
    assert "refuses the account 'c4'" in errors[0].reason
    assert isinstance(confirm_of(world, server_side, "task", "task.c4"), NotFound)
    client.kill()
    assert not accounts.revoke("c4")


def test_an_account_has_four_connections_and_ten_channels(accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer) -> None:
    url = url_of(rabbitmq, "c-5", accounts.add("c-5"))
    with ExitStack() as stack:
        first = [stack.enter_context(pika.BlockingConnection(pika.URLParameters(url))) for _ in range(4)]
        with pytest.raises(
            ConfigError, match=r"accepts no further connection of the account 'c-5'.*end another process"
        ):
            probe(url, None)
        first.pop().close()
        connection = pika.BlockingConnection(pika.URLParameters(url))
        for _ in range(10):
            connection.channel()
        with pytest.raises(ConnectionClosedByBroker) as refused:
            connection.channel()
        assert refused.value.reply_code == 530


def test_an_account_of_version_0_2_gets_its_limits_and_keeps_its_password(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
) -> None:
    url = url_of(rabbitmq, "c-6", accounts.add("c-6"))
    assert accounts.limits() == {"c-6": CLIENT_LIMITS}
    for name in ("max-connections", "max-channels"):
        rabbitmq.manage("DELETE", f"user-limits/c-6/{name}")
    assert accounts.limits() == {"c-6": AccountLimits(None, None)}
    assert accounts.limit("c-6")
    assert accounts.limits() == {"c-6": CLIENT_LIMITS}
    pika.BlockingConnection(pika.URLParameters(url)).close()
    assert not accounts.limit("nobody")
    with pytest.raises(ConfigError, match="is not a client's"):
        accounts.limit("guest")


def test_an_account_that_is_added_again_has_another_password(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
) -> None:
    first, second = accounts.add("c7"), accounts.add("c7")
    assert first != second
    assert accounts.names() == ["c7"]
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(url_of(rabbitmq, "c7", first)))
    pika.BlockingConnection(pika.URLParameters(url_of(rabbitmq, "c7", second))).close()
    assert accounts.revoke("c7")
    third = accounts.add("c7")
    pika.BlockingConnection(pika.URLParameters(url_of(rabbitmq, "c7", third))).close()


def test_no_account_but_this_alliances_clients_is_touched(accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer) -> None:
    other = open_accounts(rabbitmq, Topology("other"))
    other.add("c8")
    for change in (accounts.add, accounts.revoke):
        for name in ("guest", "c8"):
            with pytest.raises(ConfigError, match=f"{name!r} exists, and is not a client's"):
                change(name)
        with pytest.raises(ConfigError, match="can't be a client's name"):
            change("a/b")
    assert other.names() == ["c8"]
    assert other.revoke("c8")


def test_an_account_that_may_not_manage_accounts_is_refused_with_the_remedy(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer
) -> None:
    url = url_of(rabbitmq, "c9", accounts.add("c9"))
    with pytest.raises(ConfigError, match="needs an administrator's account"):
        RabbitmqAccounts(Management(url, rabbitmq.management_url), world.topology).add("c10")


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_a_message_that_a_client_routes_to_anothers_mailbox_by_a_header_is_refused(
    world: RabbitmqWorld, accounts: RabbitmqAccounts, rabbitmq: RabbitmqServer, header: str
) -> None:
    topology = world.topology
    server_side = world.connect("reducer.r1")
    mailbox, inbox = topology.client("c11"), Inbox(server_side)
    for queue in (topology.reducer(), mailbox):
        server_side.declare(queue)
    server_side.consume(mailbox.name, 0, inbox)
    assert confirm_of(world, server_side, "assignment", "assignment.reducer.c11") is None
    url = url_of(rabbitmq, "c12", accounts.add("c12"))
    forged = pika.BasicProperties(headers={header: ["assignment.c11"]}, user_id="c12")
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        refusals: list[int] = []
        try:
            channel.basic_publish(topology.exchange("assignment"), "assignment.reducer.c12", b"", forged)
        except ChannelClosedByBroker as error:
            refusals.append(error.reply_code)
    if refusals:  # by RabbitMQ 4
        assert refusals == [403]
        return
    world.until(lambda: bool(inbox.deliveries))
    envelope = Envelope(kind="grant", id="m", alliance=topology.alliance, sender="reducer", sent_at=0.0)
    with pytest.raises(ProtocolError, match="is not bound to"):
        SenderCheck(mailbox, topology, None).check(inbox.deliveries[0], envelope)
