"""`fedmq doctor` on a broker with an alarm, beside other doctors, and about who else is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from typer.testing import CliRunner

from fedmq.brokers.base import FileHandles
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.brokers.rabbitmq.probe import probe
from fedmq.records.mongo import MongoRecords
from fedmq_cli.app import app
from fedmq_schemas.topology import Topology
from support.servers.rabbitmq import RabbitmqServer
from system.deployment import Servers
from system.doctors import consuming, doctor, examined

pytestmark = pytest.mark.system
PATIENT = Topology("patient")


@contextmanager
def low_on_disk(rabbitmq: RabbitmqServer) -> Iterator[None]:
    rabbitmq.control("set_disk_free_limit", "5000GB")
    try:
        yield
    finally:
        rabbitmq.control("set_disk_free_limit", "100MB")


@pytest.mark.parametrize("role", ["reducer", "combiner", "client"])
def test_an_alarm_of_the_broker_is_named_with_its_remedy(
    environment: dict[str, str], servers: Servers, role: str
) -> None:
    with consuming(servers.rabbitmq, PATIENT.reducer().name, alliance="patient"):
        with low_on_disk(servers.rabbitmq):
            verdict, text = doctor(environment, role, code=2)["broker"]
        mended = doctor(environment, role)["broker"]

    assert verdict == "fault"
    assert "accepts no messages, as it is low on disk: free some there, or lower its limit" in text
    assert "is it running" not in text
    assert mended[0] == "ok"


def test_two_doctors_that_try_the_permissions_at_a_time_do_not_disturb_each_other(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = BlockingChannel.queue_bind

    def bind_after_another_doctor(channel: BlockingChannel, *words: Any) -> Any:
        monkeypatch.setattr(BlockingChannel, "queue_bind", bind)
        probe(servers.rabbitmq.url, PATIENT)
        return bind(channel, *words)

    monkeypatch.setattr(BlockingChannel, "queue_bind", bind_after_another_doctor)
    version = probe(servers.rabbitmq.url, PATIENT)

    assert BlockingChannel.queue_bind is bind
    assert version[0].isdigit()


def test_two_doctors_that_try_the_records_at_a_time_do_not_disturb_each_other(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = MongoRecords.insert
    others: list[str] = []

    def insert_before_another_doctor(records: MongoRecords, *words: Any) -> Any:
        found = insert(records, *words)
        if not others:
            others.append("second doctor")
            others.append(examined(environment, monkeypatch, "record store").verdict)
        return found

    monkeypatch.setattr(MongoRecords, "insert", insert_before_another_doctor)

    assert examined(environment, monkeypatch, "record store").verdict == "ok"
    assert others == ["second doctor", "ok"]


def test_a_role_that_would_wait_for_a_reducer_is_warned(environment: dict[str, str], servers: Servers) -> None:
    found = doctor(environment, "combiner")["reducer"]
    with consuming(servers.rabbitmq, PATIENT.reducer().name, alliance="patient"):
        running = doctor(environment, "combiner")["reducer"]

    assert found == ("warning", "no alliance patient has been here: see ALLIANCE_UID, or start its reducer")
    assert running == ("ok", "a reducer of alliance patient runs")


def test_a_client_whose_name_runs_already_is_warned(environment: dict[str, str], servers: Servers) -> None:
    mine = environment | {"FEDN_CLIENT_NAME": "twin"}
    with consuming(servers.rabbitmq, PATIENT.reducer().name, PATIENT.client("twin").name, alliance="patient"):
        twice = doctor(mine, "client")["client name"]
        other = doctor(mine | {"FEDN_CLIENT_NAME": "single"}, "client")["client name"]

    assert twice[0] == "warning"
    assert "a client named twin runs already" in twice[1] and "FEDN_CLIENT_NAME of its own" in twice[1]
    assert other == ("ok", "no client named single runs")


def test_a_combiner_whose_name_runs_already_is_warned(environment: dict[str, str], servers: Servers) -> None:
    mine = environment | {"FEDN_COMBINER_NAME": "twin"}
    with consuming(servers.rabbitmq, PATIENT.reducer().name, PATIENT.combiner("twin").name, alliance="patient"):
        twice = doctor(mine, "combiner")["combiner name"]
        other = doctor(mine | {"FEDN_COMBINER_NAME": "single"}, "combiner")["combiner name"]
        unnamed = doctor(mine | {"FEDN_COMBINER_NAME": ""}, "combiner")["combiner name"]

    assert twice[0] == "warning"
    assert "a combiner named twin runs already" in twice[1] and "FEDN_COMBINER_NAME of its own" in twice[1]
    assert other == ("ok", "no combiner named single runs")
    assert unnamed == ("ok", "none is set: one is drawn at the first start, and kept in the state folder")


@pytest.mark.parametrize(
    ("limit", "needed", "verdict", "words"),
    [
        (20_000, 60, "ok", "room for about 4935 more clients"),
        (1024, 600, "warning", "LimitNOFILE=65536"),
        (0, 60, "warning", "has not reported its limit"),
    ],
)
def test_file_handles_are_judged_by_what_the_broker_needs(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    needed: int,
    verdict: str,
    words: str,
) -> None:
    monkeypatch.setattr(Management, "file_handles", lambda self: FileHandles(limit, needed))
    found = examined(environment, monkeypatch, "file handles")

    assert found.verdict == verdict
    assert words in found.text


def test_clients_accounts_without_limits_are_named_with_the_remedy(
    environment: dict[str, str], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = RabbitmqAccounts(Management(servers.rabbitmq.url, servers.rabbitmq.management_url), PATIENT)
    try:
        for name in ("patient-1", "patient-2"):
            accounts.add(name)
        limited = examined(environment, monkeypatch, "client accounts")
        servers.rabbitmq.manage("DELETE", "user-limits/patient-2/max-channels")
        found = examined(environment, monkeypatch, "client accounts")
    finally:
        for name in accounts.names():
            accounts.revoke(name)

    assert (limited.verdict, limited.text.split(",")[0]) == ("ok", "2 accounts of clients")
    assert found.verdict == "warning"
    assert found.text.endswith("connections or channels: patient-2: fedmq account limit")


def test_the_files_that_a_broker_needs_are_those_of_its_connections_and_queues(servers: Servers) -> None:
    management = Management(servers.rabbitmq.url, servers.rabbitmq.management_url)
    before = management.file_handles()
    with consuming(servers.rabbitmq, "patient.one", "patient.two", alliance="patient"):
        queues = management.file_handles()

    assert before.limit == queues.limit
    assert queues.needed - before.needed >= 6


def test_a_new_account_is_given_what_its_doctor_needs(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FEDN_MINIO_PUBLIC_URL", servers.s3.url)
    given = json.loads(CliRunner().invoke(app, ["account", "add", "newcomer", "--json"]).stdout)
    with consuming(servers.rabbitmq, PATIENT.reducer().name, alliance="patient"):
        findings = doctor(environment | given, "client")
    CliRunner().invoke(app, ["account", "revoke", "newcomer"])

    assert {verdict for verdict, _ in findings.values()} == {"ok"}
    assert findings["blob store"] == ("ok", f"{servers.s3.url} answers")
