"""`fedmq account` reports whether it made an account or replaced the password of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dotenv import dotenv_values
from typer.testing import CliRunner

from fedmq.brokers.base import CLIENT_LIMITS, AccountLimits
from fedmq_cli.app import app


class Accounts:
    """The accounts of a broker, in memory: its administration and its accounts at once."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.limited: set[str] = set()

    def accounts(self, topology: object) -> Accounts:
        return self

    def close(self) -> None:
        pass

    def names(self) -> list[str]:
        return sorted(self.passwords)

    def limit(self, client: str) -> bool:
        self.limited.add(client)
        return client in self.passwords

    def limits(self) -> dict[str, AccountLimits]:
        free = AccountLimits(None, None)
        return {name: CLIENT_LIMITS if name in self.limited else free for name in self.names()}

    def add(self, client: str) -> str:
        self.passwords[client] = f"password-{len(self.passwords)}{client in self.passwords}"
        return self.passwords[client]


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    found = Accounts()
    monkeypatch.setattr("fedmq.brokers.registry.open_administration", lambda *_: found)
    monkeypatch.setenv("FEDN_AMQP_URL", "amqp://admin:secret@broker.example:5672/")
    return found


def test_a_second_add_says_that_the_password_is_replaced_and_what_to_do(accounts: Accounts) -> None:
    first, second = (CliRunner().invoke(app, ["account", "add", "hospital-7"]) for _ in range(2))

    assert "made the account hospital-7" in first.stderr and "replaced" not in first.stderr
    assert "hospital-7 had an account: its password is replaced" in second.stderr
    assert "made the account" not in second.stderr
    assert f"FEDN_AMQP_URL=amqp://hospital-7:{accounts.passwords['hospital-7']}@broker.example:5672/" in second.stdout


def test_what_add_writes_to_a_file_is_an_env_file(accounts: Accounts, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(CliRunner().invoke(app, ["account", "add", "hospital-7"]).stdout)
    url = f"amqp://hospital-7:{accounts.passwords['hospital-7']}@broker.example:5672/"
    assert dotenv_values(file) == {
        "ALLIANCE_UID": "fedmq",
        "FEDN_CLIENT_NAME": "hospital-7",
        "FEDN_AMQP_URL": url,
    }
    assert file.read_text().count("\n") == 3


def test_list_shows_limits_and_limit_gives_them_to_accounts_without(accounts: Accounts) -> None:
    for name in ("hospital-7", "hospital-8"):
        accounts.add(name)

    before = CliRunner().invoke(app, ["account", "list"]).stdout.splitlines()
    assert before[1].split() == ["hospital-7", "any", "any"]
    only = CliRunner().invoke(app, ["account", "limit", "hospital-8"]).stdout.splitlines()
    assert [line.split() for line in only[1:3]] == [["hospital-7", "any", "any"], ["hospital-8", "4", "10"]]
    both = CliRunner().invoke(app, ["account", "limit", "--json"]).stdout
    limits = {"connections": 4, "channels": 10}
    assert json.loads(both) == {"hospital-7": limits, "hospital-8": limits}
    assert json.loads(CliRunner().invoke(app, ["account", "list", "--json"]).stdout) == ["hospital-7", "hospital-8"]


def test_limit_of_an_account_that_does_not_exist_is_refused(accounts: Accounts) -> None:
    refused = CliRunner().invoke(app, ["account", "limit", "nobody"])
    assert refused.exit_code == 2
    assert "there is no account nobody: fedmq account add nobody" in refused.stderr
