"""`fedmq account init`: secrets are made once, each container gets a folder with its own, and nothing has a default."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fedmq.brokers.rabbitmq.definitions import password_hash
from fedmq.errors import ConfigError
from fedmq.process.exposure import KNOWN
from fedmq_cli.deployment.given import GivenSecrets
from fedmq_cli.deployment.secret_store import make_secrets


@pytest.fixture(autouse=True)
def nobodys_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("FEDN_", "RABBITMQ_", "ALLIANCE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def made(folder: Path, **variables: str) -> dict[str, str]:
    """Returns the content of each file that `init` leaves in the folder."""
    given = {"FEDN_AMQP_URL": "amqp://rabbitmq:5672/", "FEDN_MONGO_USER": "fedn_admin"} | variables
    make_secrets(folder, GivenSecrets.model_validate({name: value for name, value in given.items() if value}))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_files_have_mode_600_and_folders_700(tmp_path: Path) -> None:
    made(tmp_path / "secrets")
    for path in (tmp_path / "secrets").rglob("*"):
        if path.name != ".lock":
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_second_start_changes_nothing_and_another_deployment_has_other_secrets(tmp_path: Path) -> None:
    first = made(tmp_path / "a")
    assert made(tmp_path / "a") == first
    assert make_secrets(tmp_path / "a", GivenSecrets.model_validate({"FEDN_AMQP_URL": "amqp://rabbitmq:5672/"})) != []
    other = made(tmp_path / "b")
    assert all(other[name] != content for name, content in first.items())


def test_no_two_accounts_share_a_password_and_none_is_a_default(tmp_path: Path) -> None:
    passwords = json.loads(made(tmp_path)["passwords.json"])
    drawn = [value for name, value in passwords.items() if not name.startswith("salt")]
    assert len(drawn) == len(set(drawn)) == 10
    assert all(len(each) >= 32 and each not in KNOWN for each in drawn)


def test_a_container_gets_its_own_accounts_and_no_others(tmp_path: Path) -> None:
    found = made(tmp_path)
    accounts = {name.partition("/")[0]: urlsplit(text).username for name, text in found.items() if "amqp_url" in name}
    assert accounts == {
        "admin": "fedmq",
        "reducer": "fedmq.reducer",
        "combiner": "fedmq.combiner",
        "dashboard": "fedmq.dashboard",
    }
    folders: dict[str, set[str]] = {}
    for name in found:
        container, _, file = name.partition("/")
        folders.setdefault(container, set()).add(file)
    assert folders["combiner"] == {"amqp_url", "minio_secret_key", "health_token"}
    assert folders["dashboard"] == {"amqp_url", "mongo_url", "admin_token", "health_token"}
    assert folders["client"] == {"health_token"}
    assert folders["seed"] == {"admin_token"}
    assert found["reducer/mongo_url"] == f"mongodb://fedn_admin:{found['mongo/password']}@mongo:27017/"


def test_the_broker_gets_hashes_and_no_password(tmp_path: Path) -> None:
    found = made(tmp_path)
    passwords = json.loads(found["passwords.json"])
    definitions = json.loads(found["rabbitmq/definitions.json"])
    users = {each["name"]: each for each in definitions["users"]}
    assert users["fedmq"]["tags"] == "administrator"
    assert users["fedmq.combiner"]["tags"] == users["fedmq.dashboard"]["tags"] == ""
    assert not any(
        value in found["rabbitmq/definitions.json"] for name, value in passwords.items() if "salt" not in name
    )
    for name, user in users.items():
        raw = base64.b64decode(user["password_hash"])
        assert raw[4:] == hashlib.sha256(raw[:4] + passwords[name].encode()).digest()


def test_a_hash_is_rabbitmqs() -> None:
    """The example of https://www.rabbitmq.com/docs/passwords#computing-password-hash."""
    assert password_hash("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_what_is_given_is_used_and_a_new_value_replaces_it(tmp_path: Path) -> None:
    assert made(tmp_path, FEDN_MINIO_SECRET_KEY="mine")["combiner/minio_secret_key"] == "mine"
    assert made(tmp_path)["minio/password"] == "mine"
    assert made(tmp_path, FEDN_MINIO_SECRET_KEY="newer")["reducer/minio_secret_key"] == "newer"


def test_a_url_with_an_account_is_everybodys(tmp_path: Path) -> None:
    url = "amqps://account:word@services.example:5671/"
    found = made(tmp_path, FEDN_AMQP_URL=url)
    assert {found[f"{role}/amqp_url"] for role in ("reducer", "combiner", "dashboard")} == {url}


@pytest.mark.parametrize("url", ["", "amqp://guest:guest@localhost:5672/", "amqps://guest:guest@rabbit.example:5671/v"])
def test_the_account_guest_replaces_none_of_the_accounts_that_are_made(tmp_path: Path, url: str) -> None:
    """Without FEDN_AMQP_URL each role got the file of an account that RabbitMQ refuses from another host."""
    found = made(tmp_path, FEDN_AMQP_URL=url, FEDN_PUBLISH="10.0.0.1", FEDN_ADMIN_TOKEN="x" * 32)
    passwords = json.loads(found["passwords.json"])
    for role in ("reducer", "combiner", "dashboard"):
        parts, wanted = urlsplit(found[f"{role}/amqp_url"]), urlsplit(url or "amqp://localhost:5672/")
        assert (parts.username, parts.password) == (f"fedmq.{role}", passwords[f"fedmq.{role}"])
        assert (parts.scheme, parts.hostname, parts.port, parts.path) == (
            wanted.scheme,
            wanted.hostname,
            wanted.port,
            wanted.path,
        )


def test_a_mongodb_without_accounts_gets_a_url_without_one(tmp_path: Path) -> None:
    assert made(tmp_path, FEDN_MONGO_USER="")["reducer/mongo_url"] == "mongodb://mongo:27017/"


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"RABBITMQ_DEFAULT_PASS": "password"}, "RABBITMQ_DEFAULT_PASS has a password that everybody knows"),
        ({"FEDN_MINIO_SECRET_KEY": "minioadmin"}, "leave FEDN_MINIO_SECRET_KEY empty, and one is made"),
        ({"FEDN_MONGO_PASSWORD": "Password"}, "FEDN_MONGO_PASSWORD has a password"),
        ({"FEDN_AMQP_URL": "amqp://fedmq:password@rabbitmq:5672/"}, "FEDN_AMQP_URL has a password"),
        ({"FEDN_ADMIN_TOKEN_FILE": ""}, "set FEDN_ADMIN_TOKEN_FILE=/run/secrets/fedmq/admin_token"),
    ],
)
def test_ports_are_not_opened_to_others_with_a_default_or_without_a_token(
    tmp_path: Path, variables: dict[str, str], remedy: str
) -> None:
    opened = {"FEDN_PUBLISH": "0.0.0.0", "FEDN_ADMIN_TOKEN_FILE": "/run/secrets/fedmq/admin_token"} | variables
    opened = {name: value for name, value in opened.items() if value}
    with pytest.raises(ConfigError, match=remedy):
        made(tmp_path, **opened)
    assert list(tmp_path.iterdir()) == []
    made(tmp_path, **{**opened, "FEDN_PUBLISH": "127.0.0.1"})
