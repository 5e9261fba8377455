"""`fedmq account` reports whether it made an account or replaced the password of one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fedmq_cli.app import app


class Accounts:
    """The accounts of a broker, in memory: its administration and its accounts at once."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}

    def accounts(self, topology: object) -> Accounts:
        return self

    def close(self) -> None:
        pass

    def names(self) -> list[str]:
        return sorted(self.passwords)

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
    first, second = (CliRunner().invoke(app, ["account", "add", "hospital-7"]).stdout for _ in range(2))

    assert "made the account hospital-7" in first and "replaced" not in first
    assert "hospital-7 had an account: its password is replaced" in second and "made the account" not in second
    assert f"FEDN_AMQP_URL=amqp://hospital-7:{accounts.passwords['hospital-7']}@broker.example:5672/" in second
