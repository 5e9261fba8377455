"""`fedmq doctor` finds a healthy alliance well, and names each fault with its remedy."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest

from fedmq_cli.examining import LEAST_HANDLES
from servers.rabbitmq import free_ports
from system.deployment import COMMAND, PACKAGE, Deployment, Servers

pytestmark = pytest.mark.system


@pytest.fixture
def environment(servers: Servers, tmp_path: Path) -> dict[str, str]:
    """The settings of a reducer, though none runs."""
    deployment = Deployment(tmp_path / "patient", servers, "patient")
    deployment.until(lambda: servers.rabbitmq.manage("GET", "nodes")[0].get("fd_total"), 30, "numbers of the broker")
    deployment.records.close()
    return deployment.environment("doctor") | {"FEDN_RABBITMQ_MANAGEMENT_URL": servers.rabbitmq.management_url}


def doctor(environment: dict[str, str], role: str = "reducer", code: int = 0) -> dict[str, tuple[str, str]]:
    """What was found by what was looked at: verdict and text."""
    found = subprocess.run(
        [COMMAND, "doctor", role, "--json"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == code, found.stdout + found.stderr
    return {each["what"]: (each["verdict"], each["text"]) for each in json.loads(found.stdout)}


@pytest.mark.parametrize("role", ["reducer", "combiner", "client"])
def test_all_is_well_where_all_is_there(environment: dict[str, str], role: str) -> None:
    # The server of the tests gets no more open files than this machine allows.
    is_short = role == "reducer" and resource.getrlimit(resource.RLIMIT_NOFILE)[1] < LEAST_HANDLES
    findings = doctor(environment, role, code=2 if is_short else 0)

    well = {what: verdict == "ok" for what, (verdict, _) in findings.items()}
    assert well == dict.fromkeys(findings, True) | ({"file handles": False} if is_short else {})
    assert ("record store" in findings, "package" in findings) == (role == "reducer", role == "client")


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


def test_a_wrong_password_and_an_unknown_vhost_are_told_apart(environment: dict[str, str], servers: Servers) -> None:
    url = servers.rabbitmq.url
    wrong = doctor(environment | {"FEDN_AMQP_URL": url.replace("guest:guest", "guest:secret")}, code=2)["broker"]
    unknown = doctor(environment | {"FEDN_AMQP_URL": f"{url}nowhere"}, code=2)["broker"]

    assert "refuses the account 'guest'" in wrong[1]
    assert "secret" not in wrong[1]
    assert "no vhost 'nowhere'" in unknown[1] and "rabbitmqctl set_permissions" in unknown[1]


def test_an_account_that_may_not_declare_is_told_what_to_permit(environment: dict[str, str], servers: Servers) -> None:
    rabbitmq = servers.rabbitmq
    rabbitmq.manage("PUT", "users/weak", {"password": "weak", "tags": ""})
    rabbitmq.manage("PUT", "permissions/%2F/weak", {"configure": "^$", "write": ".*", "read": ".*"})
    environment["FEDN_AMQP_URL"] = rabbitmq.url.replace("guest:guest", "weak:weak")

    findings = doctor(environment, code=2)

    assert findings["broker"][0] == "fault"
    assert "set_permissions weak" in findings["broker"][1]
    assert findings["file handles"][0] == "warning"


def test_wrong_keys_of_the_blob_store_and_a_missing_package_are_named(environment: dict[str, str]) -> None:
    wrong = doctor(environment | {"FEDN_MINIO_SECRET_KEY": "wrong"}, "combiner", code=2)["blob store"]
    missing = doctor(environment | {"FEDN_PACKAGE": str(PACKAGE.parent / "none")}, "client", code=2)["package"]

    assert "FEDN_MINIO_SECRET_KEY" in wrong[1]
    assert missing[0] == "fault"


def test_too_few_file_handles_are_a_fault_with_its_remedy(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedmq.brokers.management import Management
    from fedmq.settings import ReducerSettings
    from fedmq_cli.examining import examine

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Management, "file_handles", lambda self: 1024)

    [found] = [each for each in examine(ReducerSettings.load()) if each.what == "file handles"]

    assert found.verdict == "fault"
    assert "LimitNOFILE=65536" in found.text
