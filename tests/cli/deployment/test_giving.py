"""`fedmq account serve`: each host gets its own account, again after a restart, and not once it was revoked."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmq.brokers.base import CLIENT_LIMITS, AccountLimits
from fedmq.errors import ConfigError, Refused, Transient
from fedmq_cli.deployment.asking import ask_for_account
from fedmq_cli.deployment.giving import HOSTS, AccountGiver
from fedmq_cli.deployment.serving import AccountServer


class Accounts:
    """The broker's accounts, in memory."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.count = 0
        self.failure: Exception | None = None

    def add(self, client: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.count += 1
        self.passwords[client] = f"password-{self.count}"
        return self.passwords[client]

    def limit(self, client: str) -> bool:
        return client in self.passwords

    def limits(self) -> dict[str, AccountLimits]:
        return dict.fromkeys(self.names(), CLIENT_LIMITS)

    def revoke(self, client: str) -> bool:
        return self.passwords.pop(client, None) is not None

    def names(self) -> list[str]:
        return sorted(self.passwords)


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def giver(accounts: Accounts, tmp_path: Path) -> AccountGiver:
    return AccountGiver(accounts, tmp_path / "accounts", HOSTS, "client")


def test_each_replica_gets_an_account_of_its_own_and_keeps_its_name(giver: AccountGiver, accounts: Accounts) -> None:
    first = giver.give("fedmq_client_1.fedmq")
    second = giver.give("fedmq_client_2.fedmq")
    assert (first[0], second[0]) == ("client-1", "client-2")
    again = giver.give("fedmq-client-1.fedmq")
    assert again[0] == "client-1"
    assert len({first[1], second[1], again[1]}) == 3
    assert accounts.passwords == {"client-1": again[1], "client-2": second[1]}


@pytest.mark.parametrize(
    "host", ["fedmq_combiner_1.fedmq", "fedmq_client_run_1f2e.fedmq", "gateway", "evil.example", "client_x.fedmq", ""]
)
def test_only_a_clients_container_is_given_one(giver: AccountGiver, accounts: Accounts, host: str) -> None:
    with pytest.raises(Refused, match="is not the host of a client"):
        giver.give(host)
    assert accounts.passwords == {}


def test_a_revoked_account_is_not_given_again_until_an_operator_adds_it(
    giver: AccountGiver, accounts: Accounts
) -> None:
    giver.give("fedmq_client_3.fedmq")
    accounts.revoke("client-3")
    with pytest.raises(Refused, match="was revoked: `fedmq account add client-3`"):
        giver.give("fedmq_client_3.fedmq")
    assert accounts.passwords == {}
    accounts.add("client-3")
    assert giver.give("fedmq_client_3.fedmq")[0] == "client-3"


def test_an_account_that_was_made_for_somebody_else_is_not_taken_over(giver: AccountGiver, accounts: Accounts) -> None:
    kept = accounts.add("client-4")
    with pytest.raises(Refused, match="was not made for a container"):
        giver.give("fedmq_client_4.fedmq")
    giver.give("fedmq_client_5.fedmq")
    with pytest.raises(Refused, match="is that of fedmq-client-5, not of other-client-5"):
        giver.give("other_client_5.fedmq")
    assert accounts.passwords["client-4"] == kept


def test_what_was_interrupted_is_done_again(giver: AccountGiver, accounts: Accounts) -> None:
    accounts.failure = Transient("the broker is away")
    with pytest.raises(Transient):
        giver.give("fedmq_client_1.fedmq")
    accounts.failure = None
    assert giver.give("fedmq_client_1.fedmq")[0] == "client-1"


@pytest.mark.parametrize(("base", "name"), [("client-fedn1-", "client-fedn1-7"), ("x" * 64, "x" * 50 + "-7")])
def test_a_base_begins_the_name(accounts: Accounts, tmp_path: Path, base: str, name: str) -> None:
    assert AccountGiver(accounts, tmp_path, HOSTS, base).give("fedmq_client_7.fedmq")[0] == name


@pytest.fixture
def hosts() -> dict[str, str]:
    return {"127.0.0.1": "fedmq_client_1.fedmq"}


@pytest.fixture
def url(giver: AccountGiver, hosts: dict[str, str]) -> Iterator[str]:
    def name_of(address: str) -> str:
        if address not in hosts:
            raise OSError("unknown host")
        return hosts[address]

    server = AccountServer("127.0.0.1", 0, giver, lambda name, password: {"name": name, "password": password}, name_of)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()
    thread.join()


def test_a_client_asks_over_http_and_names_itself_in_vain(url: str, accounts: Accounts) -> None:
    assert ask_for_account(url) == {"name": "client-1", "password": accounts.passwords["client-1"]}
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    body = json.dumps({"name": "client-2", "host": "fedmq_client_2.fedmq"})
    connection.request("POST", "/account", body, {"Host": "fedmq_client_2.fedmq", "X-Forwarded-For": "10.0.0.9"})
    assert json.loads(connection.getresponse().read())["name"] == "client-1"
    connection.close()
    assert set(accounts.passwords) == {"client-1"}


def test_a_refusal_ends_the_client_with_the_reason(url: str, accounts: Accounts) -> None:
    ask_for_account(url)
    accounts.revoke("client-1")
    with pytest.raises(ConfigError, match="was revoked"):
        ask_for_account(url)


def test_a_host_without_a_name_is_refused(url: str, hosts: dict[str, str]) -> None:
    hosts.clear()
    with pytest.raises(ConfigError, match="has no name here"):
        ask_for_account(url)


def test_a_client_waits_while_the_broker_is_away(
    url: str, accounts: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    accounts.failure = Transient("the broker is away")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            accounts.failure = None

    assert ask_for_account(url, sleep)["name"] == "client-1"
    assert [record.getMessage() for record in caplog.records if "no account" in record.getMessage()] == [
        f"no account from {url} yet, trying again: the broker is away"
    ]


def test_nothing_else_is_served(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    for method, path, status in (("GET", "/health", 200), ("GET", "/account", 404), ("POST", "/", 404)):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == status, path
