"""`fedmq doctor` finds a healthy alliance well, and names each fault with its remedy."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.records.mongo import MongoRecords
from fedmq_schemas.topology import Topology, server_permissions
from support.servers.ports import free_ports
from system.deployment import PACKAGE, Servers
from system.doctors import consuming, doctor, examined

pytestmark = pytest.mark.system


@pytest.mark.parametrize("role", ["reducer", "combiner", "client", "dashboard"])
def test_all_is_well_where_all_is_there(environment: dict[str, str], servers: Servers, role: str) -> None:
    with consuming(servers.rabbitmq, Topology("patient").reducer().name, alliance="patient"):
        findings = doctor(environment, role)

    assert {what for what, (verdict, _) in findings.items() if verdict != "ok"} == set(), findings
    assert ("record store" in findings) == (role in ("reducer", "dashboard"))
    assert ("package" in findings) == (role == "client")


def test_each_server_that_is_away_is_named(environment: dict[str, str]) -> None:
    rabbitmq, s3, mongo, management = free_ports(4)
    environment |= {
        "FEDN_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{rabbitmq}/",
        "FEDN_MINIO_PORT": str(s3),
        "FEDN_MONGO_PORT": str(mongo),
        "FEDN_RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{management}",
    }

    findings = doctor(environment, code=2)

    for what, words in (("broker", str(rabbitmq)), ("blob store", str(s3)), ("record store", "127.0.0.1")):
        assert findings[what][0] == "fault"
        assert words in findings[what][1]
    assert findings["file handles"][0] == findings["clock"][0] == "warning"


def test_a_host_that_no_name_server_knows_is_named_with_its_setting(environment: dict[str, str]) -> None:
    unknown = {"FEDN_AMQP_URL": "amqp://a:b@nowhere.invalid/", "FEDN_MINIO_HOST": "nowhere.invalid"}
    findings = doctor(environment | unknown | {"FEDN_MONGO_HOST": "nowhere.invalid"}, code=2)

    for what, setting in (("broker", "AMQP_URL"), ("blob store", "MINIO_HOST"), ("record store", "MONGO_HOST")):
        assert findings[what][0] == "fault"
        assert "nowhere.invalid" in findings[what][1] and setting in findings[what][1]


def test_a_wrong_password_and_an_unknown_vhost_are_told_apart(environment: dict[str, str], servers: Servers) -> None:
    url = servers.rabbitmq.url
    wrong = doctor(environment | {"FEDN_AMQP_URL": url.replace("guest:guest", "guest:secret")}, code=2)["broker"]
    unknown = doctor(environment | {"FEDN_AMQP_URL": f"{url}nowhere"}, code=2)["broker"]

    assert "refuses the account 'guest'" in wrong[1]
    assert "secret" not in wrong[1]
    assert "no vhost 'nowhere'" in unknown[1] and "rabbitmqctl set_permissions" in unknown[1]


@pytest.mark.parametrize("lacking", ["configure", "write", "read"])
def test_an_account_that_lacks_a_permission_is_told_what_to_permit(
    environment: dict[str, str], servers: Servers, lacking: str
) -> None:
    rabbitmq = servers.rabbitmq
    rabbitmq.manage("PUT", "users/weak", {"password": "weak", "tags": ""})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    rabbitmq.manage("PUT", "permissions/%2F/weak", everything | {lacking: "^$"})
    environment["FEDN_AMQP_URL"] = rabbitmq.url.replace("guest:guest", "weak:weak")

    findings = doctor(environment, code=2)

    assert findings["broker"][0] == "fault"
    assert "if ALLIANCE_UID=patient is right, rabbitmqctl set_permissions weak" in findings["broker"][1]
    assert findings["file handles"][0] == "warning"


def test_wrong_keys_of_the_blob_store_and_a_missing_package_are_named(environment: dict[str, str]) -> None:
    wrong = doctor(environment | {"FEDN_MINIO_SECRET_KEY": "wrong"}, "combiner", code=2)["blob store"]
    missing = doctor(environment | {"FEDN_PACKAGE": str(PACKAGE.parent / "none")}, "client", code=2)["package"]

    assert "FEDN_MINIO_SECRET_KEY" in wrong[1]
    assert missing[0] == "fault"


def test_a_server_of_another_kind_at_the_address_is_named_with_the_setting(
    environment: dict[str, str], servers: Servers
) -> None:
    wrong = {
        "FEDN_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{servers.s3.port}/",
        "FEDN_MINIO_PORT": str(servers.rabbitmq.port),
        "FEDN_MONGO_PORT": str(servers.s3.port),
    }

    findings = doctor(environment | wrong, code=2)

    for what, words in (("broker", "AMQP_URL"), ("blob store", "MINIO_PORT"), ("record store", "MONGO_PORT")):
        assert findings[what][0] == "fault"
        assert words in findings[what][1]


def test_tls_to_a_server_that_speaks_none_is_named_with_the_setting(
    environment: dict[str, str], servers: Servers
) -> None:
    wrong = {"FEDN_AMQP_URL": servers.rabbitmq.url.replace("amqp:", "amqps:"), "FEDN_MINIO_TLS": "true"}

    findings = doctor(environment | wrong, "combiner", code=2)

    for what, words in (("broker", "begin FEDN_AMQP_URL with amqp://"), ("blob store", "set FEDN_MINIO_TLS=false")):
        assert findings[what][0] == "fault"
        assert "speaks no TLS" in findings[what][1] and words in findings[what][1]


def test_an_address_that_clients_can_not_use_is_named(environment: dict[str, str]) -> None:
    [nowhere] = free_ports(1)
    url = f"http://127.0.0.1:{nowhere}"
    found = doctor(environment | {"FEDN_MINIO_PUBLIC_URL": url}, "combiner", code=2)["blob store"]

    assert "presigned URL does not lead back" in found[1]
    assert f"clients use {url}, see FEDN_MINIO_PUBLIC_URL" in found[1]


def test_a_state_folder_that_can_not_be_written_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = doctor(environment | {"FEDN_STATE_DIR": str(tmp_path / "file")}, "client", code=2)["state folder"]

    assert "set FEDN_STATE_DIR" in found[1]


def test_a_password_that_breaks_the_url_is_not_shown(environment: dict[str, str]) -> None:
    broken = environment | {"FEDN_AMQP_URL": "amqp://guest:hush#hush@127.0.0.1:5672/"}
    found = doctor(broken, "combiner", code=2)["broker"]

    assert "percent-encoded" in found[1]
    assert "hush" not in found[1]


def test_a_client_whose_account_is_anothers_is_told(environment: dict[str, str], servers: Servers) -> None:
    rabbitmq, topology = servers.rabbitmq, Topology("patient")
    accounts = RabbitmqAccounts(Management(rabbitmq.url, rabbitmq.management_url), topology)
    url = rabbitmq.url.replace("guest:guest", f"ill:{accounts.add('ill')}")
    mine = environment | {"FEDN_AMQP_URL": url, "FEDN_CLIENT_NAME": "ill"}
    assert doctor(mine, "client")["broker"] == (
        "warning",
        "no alliance patient has been here: see ALLIANCE_UID, or start its reducer",
    )
    with consuming(rabbitmq, alliance="patient"):
        assert doctor(mine, "client")["broker"][0] == "ok"
        found = doctor(mine | {"FEDN_CLIENT_NAME": "well"}, "client", code=2)["broker"]
        unnamed = doctor(mine | {"FEDN_CLIENT_NAME": ""}, "client", code=2)["broker"]
    assert "the account 'ill' may not publish as client 'well'" in found[1]
    assert "fedmq account add well" in found[1]
    assert "FEDN_CLIENT_NAME is not set" in unnamed[1] and "set FEDN_CLIENT_NAME=ill" in unnamed[1]
    accounts.revoke("ill")


def test_a_combiner_of_another_alliance_than_its_account_sees_that_cause_before_the_remedy(
    environment: dict[str, str], servers: Servers
) -> None:
    rabbitmq, allowed = servers.rabbitmq, server_permissions(Topology("patient"))
    rabbitmq.manage("PUT", "users/crew", {"password": "crew", "tags": ""})
    permitted = {"configure": allowed.configure, "write": allowed.write, "read": allowed.read}
    rabbitmq.manage("PUT", "permissions/%2F/crew", permitted)
    environment["FEDN_AMQP_URL"] = rabbitmq.url.replace("guest:guest", "crew:crew")

    wrong = doctor(environment | {"ALLIANCE_UID": "opera"}, "combiner", code=2)["broker"]
    mended = doctor(environment, "combiner")["broker"]

    assert "if ALLIANCE_UID=opera is right, rabbitmqctl set_permissions crew" in wrong[1]
    assert mended[0] == "ok"


def test_a_client_of_another_alliance_than_its_account_sees_that_cause_before_the_remedy(
    environment: dict[str, str], servers: Servers
) -> None:
    rabbitmq, topology = servers.rabbitmq, Topology("patient")
    accounts = RabbitmqAccounts(Management(rabbitmq.url, rabbitmq.management_url), topology)
    mine = environment | {"FEDN_CLIENT_NAME": "ill"}
    mine["FEDN_AMQP_URL"] = rabbitmq.url.replace("guest:guest", f"ill:{accounts.add('ill')}")
    opera = mine | {"ALLIANCE_UID": "opera"}
    with consuming(rabbitmq, topology.reducer().name, alliance="patient"):
        wrong = doctor(opera, "client", code=2)["broker"]
        unnamed = doctor(opera | {"FEDN_CLIENT_NAME": ""}, "client", code=2)["broker"]
        mended = doctor(mine, "client")["broker"]
    accounts.revoke("ill")

    assert "if ALLIANCE_UID=opera is right, see FEDN_CLIENT_NAME" in wrong[1]
    assert "if ALLIANCE_UID=opera is right, set FEDN_CLIENT_NAME=ill" in unnamed[1]
    assert mended[0] == "ok"


def test_a_rabbitmq_that_is_too_old_is_a_fault(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq.brokers.rabbitmq.administration.probe", lambda *_: "3.9.29")
    found = examined(environment, monkeypatch, "broker")

    assert (found.verdict, found.text) == ("fault", "RabbitMQ 3.9.29 is too old: 3.10 or newer")


@pytest.mark.parametrize(
    ("skew", "verdict", "words"),
    [(30, "warning", "ahead of the S3"), (-30, "warning", "behind the S3"), (600, "fault", "URLs will be refused")],
)
def test_a_clock_that_is_off_is_told(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, skew: float, verdict: str, words: str
) -> None:
    now = time.time
    monkeypatch.setattr("fedmq_cli.doctor.store_checks.time", SimpleNamespace(time=lambda: now() + skew))
    found = examined(environment, monkeypatch, "clock")

    assert found.verdict == verdict
    assert words in found.text
    assert "NTP" in found.text


def test_a_record_store_that_takes_a_key_twice_is_a_fault(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MongoRecords, "insert", lambda *_: None)
    found = examined(environment, monkeypatch, "record store")

    assert found.verdict == "fault"
    assert "takes a key twice" in found.text


def test_data_that_is_not_there_is_named_with_its_setting(environment: dict[str, str], tmp_path: Path) -> None:
    found = doctor(environment | {"FEDN_DATA_PATH": str(tmp_path / "none")}, "client", code=2)["data"]
    (tmp_path / "none").mkdir()
    made = doctor(environment | {"FEDN_DATA_PATH": str(tmp_path / "none")}, "client")["data"]

    assert found[0] == "fault"
    assert "does not exist: correct FEDN_DATA_PATH" in found[1]
    assert made[0] == "ok"
