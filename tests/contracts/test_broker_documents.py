"""What the documents say to type at RabbitMQ: saving its accounts, and reading and emptying the dead letters."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from contracts.test_broker_accounts import open_accounts, url_of
from contracts.worlds import Inbox, RabbitmqWorld, confirm_of, open_inbox
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
BACK_UP, OPERATE, MACHINES = (
    ROOT / "docs" / "how-to" / f"{page}.md" for page in ("back-up", "operate", "run-on-several-machines")
)
EXPORT, IMPORT = "export_definitions", "import_definitions"


@pytest.fixture
def new_server(rabbitmq: RabbitmqServer, tmp_path: Path) -> Iterator[RabbitmqServer]:
    """A RabbitMQ that has nothing of the alliance."""
    server = type(rabbitmq)(tmp_path / "new")
    try:
        yield server.start()
    finally:
        server.remove()


def test_the_definitions_of_init_are_imported_from_a_file_that_the_user_rabbitmq_can_open() -> None:
    """Debian's rabbitmqctl changes folder and account, and so opens no relative path and no file of root alone."""
    folder, name = "/var/lib/rabbitmq/", "definitions.json"
    commands = [
        f"install -m 600 -o rabbitmq secrets/rabbitmq/{name} {folder}",
        f"rabbitmqctl {IMPORT} {folder}{name}",
        f"rm {folder}{name}",
    ]
    assert "\n".join(commands) in MACHINES.read_text()


def test_a_new_rabbitmq_has_the_accounts_of_exported_definitions(
    rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer, new_server: RabbitmqServer
) -> None:
    accounts, topology = open_accounts(rabbitmq, rabbitmq_world.topology), rabbitmq_world.topology
    password, file = accounts.add("hospital"), "definitions.json"
    try:
        rabbitmq.control(EXPORT, rabbitmq.seen(rabbitmq.folder / file))
        shutil.copy(rabbitmq.folder / file, new_server.folder)
        new_server.control(IMPORT, new_server.seen(new_server.folder / file))
    finally:
        accounts.revoke("hospital")
    assert {f"rabbitmqctl {EXPORT} definitions.json", f"rabbitmqctl {IMPORT} definitions.json"} <= set(
        BACK_UP.read_text().splitlines()
    )

    reducer = RabbitmqBroker(new_server.url, rabbitmq_world.scheduler).connect("reducer.r1")
    reducer.declare(topology.client("hospital"))
    client = RabbitmqBroker(url_of(new_server, "hospital", password), rabbitmq_world.scheduler).connect(
        "client.hospital"
    )
    mailbox = Inbox(client)
    client.consume(topology.client("hospital").name, 0, mailbox)
    assert confirm_of(rabbitmq_world, reducer, "task", "task.hospital") is None
    rabbitmq_world.until(lambda: mailbox.ids == ["m"])
    for connection in (client, reducer):
        connection.close()


def test_dead_letters_are_read_with_their_reasons_and_purged(
    rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer
) -> None:
    topology = rabbitmq_world.topology
    connection = rabbitmq_world.connect("combiner.k1")
    for queue in (topology.dead(), topology.combiner("k1")):
        connection.declare(queue)
    inbox = open_inbox(connection, topology.combiner("k1"), acking=False)
    assert confirm_of(rabbitmq_world, connection, "task", "plan.k1") is None
    rabbitmq_world.until(lambda: bool(inbox.tags))
    connection.reject(inbox.tags[0], "kind 'nonsense' is unknown")
    name = topology.dead().name
    assert name == f"{topology.alliance}.dead.v2"

    wanted = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    found: list[dict[str, object]] = []

    def is_there() -> bool:
        found[:] = rabbitmq.manage("POST", f"queues/%2F/{quote(name)}/get", wanted)
        return bool(found)

    rabbitmq_world.until(is_there)
    assert found[0]["properties"]["headers"]["x-fedmq-reason"] == "kind 'nonsense' is unknown"  # type: ignore[index]
    assert len(rabbitmq.manage("POST", f"queues/%2F/{quote(name)}/get", wanted)) == 1, "reading removes nothing"
    rabbitmq.control("purge_queue", name)
    assert rabbitmq.manage("POST", f"queues/%2F/{quote(name)}/get", wanted) == []
    text = OPERATE.read_text()
    assert "rabbitmqctl purge_queue ALLIANCE.dead.v2" in text
    assert '{"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}' in text
