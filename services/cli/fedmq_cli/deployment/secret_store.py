"""Makes the secrets of a deployment once, and writes for each container a folder with those that it needs.

    FOLDER/passwords.json            every secret, and the salts of the broker's accounts
    FOLDER/CONTAINER/FILE            one secret, for the account that the container runs with

Files have mode 600 and folders 700. `passwords.json` alone is kept; all else is written from it and from what is given.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmq.brokers.rabbitmq.definitions import SALT_BYTES, definitions
from fedmq.process.lock import wait_for_lock
from fedmq_cli.deployment.given import GivenSecrets
from fedmq_schemas.role_accounts import ROLES, role_account
from fedmq_schemas.topology import Topology

PASSWORD_BYTES = 24
OURS, ROOT, MONGO = 10001, 0, 999
"""The users that containers run with: FedMQ's own images, root, and the images of MongoDB."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file of one container. `owner`: the user that its process runs with."""

    container: str
    name: str
    content: str
    owner: int


class Passwords:
    """The secrets of a deployment by their names. Each is given, or drawn once and kept."""

    def __init__(self, kept: dict[str, str]) -> None:
        self.kept = dict(kept)

    def password(self, name: str, given: str | None = None) -> str:
        """Returns the secret `name`; one that is given replaces the kept one."""
        self.kept[name] = given or self.kept.get(name) or secrets.token_urlsafe(PASSWORD_BYTES)
        return self.kept[name]

    def salt(self, name: str) -> bytes:
        """Returns the salt of an account, which keeps its hash the same from start to start."""
        key = f"salt of {name}"
        self.kept.setdefault(key, secrets.token_hex(SALT_BYTES))
        return bytes.fromhex(self.kept[key])


def secret_files(given: GivenSecrets, passwords: Passwords) -> Iterator[SecretFile]:
    """Yields the files of all containers. Draws what is neither given nor kept."""
    topology, secret = Topology(given.alliance), given.secrets()
    broker = {given.administrator: passwords.password(given.administrator, secret.get("RABBITMQ_DEFAULT_PASS"))}
    broker |= {name: passwords.password(name) for name in (role_account(topology, role) for role in ROLES)}
    salts = {name: passwords.salt(name) for name in broker}
    yield SecretFile(
        "rabbitmq", "definitions.json", json.dumps(definitions(topology, given.administrator, broker, salts)), ROOT
    )
    yield SecretFile("admin", "password", broker[given.administrator], OURS)
    yield SecretFile("admin", "amqp_url", given.broker_url(given.administrator, broker[given.administrator]), OURS)
    for role in ("reducer", "combiner", "dashboard"):
        account = role_account(topology, role)
        yield SecretFile(role, "amqp_url", given.broker_url(account, broker[account]), OURS)
    monitor = role_account(topology, "monitor")
    yield SecretFile("monitor", "management_url", given.management_url(monitor, broker[monitor]), OURS)
    blobs = passwords.password("minio", secret.get("FEDN_MINIO_SECRET_KEY"))
    yield SecretFile("minio", "password", blobs, ROOT)
    for role in ("reducer", "combiner"):
        yield SecretFile(role, "minio_secret_key", blobs, OURS)
    records = passwords.password("mongo", secret.get("FEDN_MONGO_PASSWORD"))
    yield SecretFile("mongo", "password", records, MONGO)
    for container, owner in (("reducer", OURS), ("dashboard", OURS), ("mongo-express", ROOT)):
        yield SecretFile(container, "mongo_url", given.records_url(records), owner)
    yield SecretFile("mongo-express", "password", passwords.password("page", secret.get("FEDN_ME_PASSWORD")), ROOT)
    token = passwords.password("token", secret.get("FEDN_ADMIN_TOKEN"))
    for container in ("reducer", "dashboard", "seed"):
        yield SecretFile(container, "admin_token", token, OURS)
    metrics = passwords.password("metrics", secret.get("FEDN_HEALTH_TOKEN"))
    for container in ("reducer", "combiner", "dashboard", "client"):
        yield SecretFile(container, "health_token", metrics, OURS)


def make_secrets(folder: Path, given: GivenSecrets) -> list[str]:
    """Writes the files that are missing or have changed. Returns their paths in the folder.

    May be called by several processes at once, and again at each start. Raises ConfigError as `GivenSecrets.check` does.
    """
    given.check()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        wait_for_lock(lock)
        kept = folder / "passwords.json"
        passwords = Passwords(json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {})
        files = list(secret_files(given, passwords))
        # First, so that no container ever has a secret that is drawn anew at the next start.
        changed = _write(kept, json.dumps(passwords.kept, indent=1, sort_keys=True), ROOT)
        written = [kept.name] if changed else []
        for file in files:
            place = folder / file.container
            place.mkdir(exist_ok=True)
            _own(place, 0o700, file.owner)
            if _write(place / file.name, file.content, file.owner):
                written.append(f"{file.container}/{file.name}")
    return written


def _write(path: Path, content: str, owner: int) -> bool:
    """Replaces the file as one step. Returns whether the content is new."""
    if path.exists() and path.read_text(encoding="utf-8") == content:
        _own(path, 0o600, owner)
        return False
    replacement = path.with_name(f".{path.name}.new")
    replacement.unlink(missing_ok=True)
    with os.fdopen(os.open(replacement, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    _own(replacement, 0o600, owner)
    os.replace(replacement, path)
    return True


def _own(path: Path, mode: int, owner: int) -> None:
    """Gives the file to its container's user. Who is not root keeps it, as for a cluster that is given the content."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
