"""Real processes, each with the account of its role: they start in the wrong order, train, and take a revoked client out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq_cli.deployment.given import GivenSecrets, as_account
from fedmq_cli.deployment.giving import HOSTS, AccountGiver
from fedmq_cli.deployment.secret_store import make_secrets
from fedmq_cli.deployment.serving import AccountServer
from fedmq_schemas import records as tables
from fedmq_schemas.topology import Topology
from system.deployment import Deployment, Servers
from system.node import COMMAND

pytestmark = pytest.mark.system

ALLIANCE = "roles"


@pytest.fixture
def address(servers: Servers) -> str:
    servers.start()
    return f"amqp://127.0.0.1:{servers.rabbitmq.port}/"


@pytest.fixture
def secrets(servers: Servers, address: str, tmp_path: Path) -> Iterator[Path]:
    """What `fedmq account init` makes, with the accounts at the broker."""
    given = {"ALLIANCE_UID": ALLIANCE, "FEDN_AMQP_URL": address, "RABBITMQ_DEFAULT_USER": "roles-chief"}
    make_secrets(tmp_path / "secrets", GivenSecrets.model_validate(given))
    definitions = json.loads((tmp_path / "secrets" / "rabbitmq" / "definitions.json").read_text())
    servers.rabbitmq.manage("POST", "definitions", definitions)
    yield tmp_path / "secrets"
    for user in definitions["users"]:
        servers.rabbitmq.manage("DELETE", f"users/{user['name']}")


@pytest.fixture
def accounts(servers: Servers, secrets: Path) -> Iterator[RabbitmqAccounts]:
    """The accounts of clients, as the administrator that was made changes them."""
    url = (secrets / "admin" / "amqp_url").read_text()
    found = RabbitmqAccounts(Management(url, servers.rabbitmq.management_url), Topology(ALLIANCE))
    yield found
    for name in found.names():
        found.revoke(name)


@pytest.fixture
def giver(address: str, accounts: RabbitmqAccounts, tmp_path: Path) -> Iterator[str]:
    """The URL of a service that takes this machine for a client's container."""
    server = AccountServer(
        "127.0.0.1",
        0,
        AccountGiver(accounts, tmp_path / "given", HOSTS, "roles"),
        lambda name, password: {"FEDN_CLIENT_NAME": name, "FEDN_AMQP_URL": as_account(address, name, password)},
        lambda address: "roles-client-2.network",
    )
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()
    thread.join()


def test_each_role_trains_with_its_own_account_in_whatever_order_they_start(
    servers: Servers, secrets: Path, accounts: RabbitmqAccounts, giver: str, address: str, tmp_path: Path
) -> None:
    def own(role: str) -> dict[str, str]:
        return {"FEDN_AMQP_URL": "", "FEDN_AMQP_URL_FILE": str(secrets / role / "amqp_url")}

    with Deployment(tmp_path / "alliance", servers, ALLIANCE) as alliance:
        alliance.programs["client"] = ("/bin/sh", "-c", f"exec {COMMAND} run client --accounts {giver}")
        combiner = alliance.add("combiner", 1, **own("combiner"))
        alliance.until(lambda: "no reducer has answered" in combiner.log.read_text(), "the combiner waits")
        client = alliance.add("client", 2, FEDN_AMQP_URL=address)
        alliance.add("reducer", 1, **own("reducer"))
        alliance.await_present(tables.COMBINERS, 1)
        alliance.await_present(tables.CLIENTS, 1)
        alliance.seed()
        alliance.start_session("roles", seed="seed-system", rounds=2)
        assert alliance.await_end("roles")["state"] == "finished"
        users = {each["user"] for each in servers.rabbitmq.manage("GET", "connections") if each["user"] != "guest"}
        assert users == {"roles.reducer", "roles.combiner", "roles-2"}
        assert alliance.records.count(tables.EVENTS, {"name": "message.refused"}) == 0

        accounts.revoke("roles-2")
        alliance.until(lambda: not client.is_running, "the client has ended")
        client.start()
        alliance.until(lambda: not client.is_running, "the client has ended again")
        assert "gives this client no account: the account roles-2 was revoked" in client.log.read_text()
        assert accounts.names() == []
