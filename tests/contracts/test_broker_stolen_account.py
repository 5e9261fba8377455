"""All that somebody with a client's account tries at a real RabbitMQ (see `attempts`), and that nothing comes of it."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
)

from contracts.attempts import BY_HEADER, REFUSED, THIEF, UNREFUSED, VICTIM, Stolen, Try
from contracts.worlds import Inbox, RabbitmqWorld, confirm_of, open_inbox
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
SECTION = "## What a stolen client account can do at the broker"
ACCEPTED = "accepted"


@pytest.fixture
def stolen(rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer) -> Iterator[Stolen]:
    topology = rabbitmq_world.topology
    accounts = RabbitmqAccounts(Management(rabbitmq.url, rabbitmq.management_url), topology)
    accounts.add(VICTIM)
    made = Stolen(f"amqp://{THIEF}:{accounts.add(THIEF)}@127.0.0.1:{rabbitmq.port}/", rabbitmq, topology)
    yield made
    for name in accounts.names():
        accounts.revoke(name)


def answer(attempt: Try, stolen: Stolen) -> int | str:
    """Returns RabbitMQ's code of refusal, or `ACCEPTED`."""
    try:
        with closing(pika.BlockingConnection(pika.URLParameters(stolen.url))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            attempt(channel, stolen)
            return ACCEPTED
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        return error.reply_code
    except ProbableAccessDeniedError:
        return 530
    except urllib.error.HTTPError as error:
        return error.code
    finally:
        for opened in stolen.opened:
            if opened.is_open:
                opened.close()
        stolen.opened.clear()


def state(server: RabbitmqServer) -> dict[str, Any]:
    """What the broker has of queues, exchanges, bindings, accounts and their permissions."""
    kinds = ("exchanges", "queues", "bindings", "users", "permissions", "topic-permissions", "user-limits", "vhosts")
    found = {kind: server.manage("GET", kind) for kind in kinds}
    for kind in ("exchanges", "queues", "users", "vhosts"):
        found[kind] = [each["name"] for each in found[kind]]
    return {kind: sorted(map(str, each)) for kind, each in found.items()}


def test_a_stolen_account_reads_binds_deletes_and_forges_nothing(
    rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer, stolen: Stolen
) -> None:
    world, topology = rabbitmq_world, rabbitmq_world.topology
    servers = world.connect("reducer.r1")
    for queue in (
        topology.reducer(),
        topology.records(),
        topology.dead(),
        topology.combiner("k1"),
        topology.client(THIEF),
        topology.client(VICTIM),
        topology.observer("page"),
    ):
        servers.declare(queue)
    assert confirm_of(world, servers, "task", f"task.{VICTIM}") is None
    before = state(rabbitmq)

    answers = {name: answer(attempt, stolen) for name, (attempt, _) in REFUSED.items()}
    assert answers == {name: code for name, (_, code) in REFUSED.items()}
    assert len(REFUSED) + len(BY_HEADER) + len(UNREFUSED) >= 43

    is_4 = not rabbitmq.manage("GET", "overview")["rabbitmq_version"].startswith("3.")
    by_header = {name: answer(attempt, stolen) for name, attempt in BY_HEADER.items()}
    assert by_header == dict.fromkeys(BY_HEADER, 403 if is_4 else ACCEPTED)
    unrefused = {name: answer(attempt, stolen) for name, attempt in UNREFUSED.items()}
    assert unrefused == dict.fromkeys(UNREFUSED, ACCEPTED)

    assert state(rabbitmq) == before
    mailbox = open_inbox(servers, topology.client(VICTIM))
    world.until(lambda: len(mailbox.ids) == (1 if is_4 else 3))
    world.rest()
    assert {each.user for each in mailbox.deliveries} == ({"guest"} if is_4 else {"guest", THIEF})
    inbox: Inbox = open_inbox(servers, topology.reducer())
    world.until(lambda: len(inbox.ids) == (0 if is_4 else 2))


def test_security_names_what_rabbitmq_can_not_refuse() -> None:
    section = SECURITY.read_text().partition(SECTION)[2].partition("\n## ")[0]
    for words in ("CC", "BCC", "passive", "priority", "own mailbox", str(len(REFUSED))):
        assert words in section, words
