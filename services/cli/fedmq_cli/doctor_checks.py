"""The checks of `fedmq doctor`. Each returns what works, or raises an error that names fault and remedy."""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import urllib3

from fedmq import __version__, tls
from fedmq.blobs import transfer
from fedmq.brokers.registry import open_administration
from fedmq.errors import ConfigError, FedMQError, NotFound, Transient
from fedmq.process.connect import open_blobs, open_records
from fedmq.process.settings import (
    AllianceSettings,
    BlobSettings,
    ClientSettings,
    CombinerSettings,
    RecordSettings,
    ReducerSettings,
)
from fedmq_schemas import keys
from fedmq_schemas.topology import Topology

OLDEST_RABBITMQ = (3, 10)
LEAST_HANDLES = 60_000
"""Somewhat below the recommended limit of 65,536, of which RabbitMQ keeps some for itself."""
MOST_SKEW = 240.0
"""Seconds. Presigned URLs are dated five minutes back, so a larger skew makes them invalid."""
NOTABLE_SKEW = 5.0

ADDRESSES = {
    "broker": "FEDN_AMQP_URL",
    "blob store": "FEDN_MINIO_HOST, FEDN_MINIO_PORT and FEDN_MINIO_TLS",
    "record store": "FEDN_MONGO_HOST and FEDN_MONGO_PORT",
}
"""The settings to check if a server runs and yet does not answer."""

CheckResult = Literal["ok", "warning", "fault"]
Check = Callable[[], str]


class Notable(Exception):
    """Raised by a check for what works but deserves a warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `text` says what was found; for a fault, its cause and remedy."""

    what: str
    verdict: CheckResult
    text: str


def settings_of(role: str) -> AllianceSettings:
    """Returns the settings that the role would read. Raises ConfigError that names each bad value."""
    roles: dict[str, type[AllianceSettings]] = {
        "reducer": ReducerSettings,
        "combiner": CombinerSettings,
        "client": ClientSettings,
    }
    if role not in roles:
        raise ConfigError(f"there is no role {role!r}: {', '.join(roles)}")
    return roles[role].load()


def examine(settings: AllianceSettings) -> Iterator[Finding]:
    """Yields each finding as soon as its check has ended. Raises ConfigError for an unusable file of authorities."""
    tls.trust(settings.ca_file)
    checks: list[tuple[str, Check]] = [
        ("versions", _versions),
        ("state folder", lambda: _state_folder(settings.state_dir)),
        ("broker", lambda: _broker(settings)),
    ]
    if isinstance(settings, ReducerSettings):
        checks.append(("file handles", lambda: _file_handles(settings)))
    if isinstance(settings, BlobSettings):
        checks += [("blob store", lambda: _blobs(settings)), ("clock", lambda: _clock(settings))]
    if isinstance(settings, RecordSettings):
        checks.append(("record store", lambda: _records(settings)))
    if isinstance(settings, ClientSettings):
        checks.append(("package", lambda: _package(settings)))
    for what, check in checks:
        yield _finding(what, check)


def _finding(what: str, check: Check) -> Finding:
    try:
        return Finding(what, "ok", check())
    except Notable as warning:
        return Finding(what, "warning", str(warning))
    except Transient as error:
        return Finding(what, "fault", f"{error.reason}: is it running? See {ADDRESSES.get(what, 'its log')}")
    except FedMQError as error:
        return Finding(what, "fault", error.reason)


def _versions() -> str:
    return f"fedmq {__version__}, Python {platform.python_version()}"


def _state_folder(folder: Path) -> str:
    path = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        path.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be written ({error.strerror}): mend its owner, or set FEDN_STATE_DIR"
        ) from None
    return f"{folder.resolve()} can be written"


def _broker(settings: AllianceSettings) -> str:
    topology = Topology(settings.alliance)
    client = settings.client_name if isinstance(settings, ClientSettings) else None
    is_unnamed = isinstance(settings, ClientSettings) and client is None
    broker = open_administration(settings.amqp_url.get_secret_value())
    try:
        version = broker.probe(None if is_unnamed else topology, client)
    except NotFound as error:
        raise Notable(error.reason) from error
    finally:
        broker.close()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < OLDEST_RABBITMQ:
        raise ConfigError(f"RabbitMQ {version} is too old: 3.10 or newer")
    return f"RabbitMQ {version}" + ("" if is_unnamed else ", and the account may do what it must")


def _file_handles(settings: ReducerSettings) -> str:
    broker = open_administration(settings.amqp_url.get_secret_value(), settings.management_url)
    try:
        limit = broker.file_handles()
    except FedMQError as error:
        raise Notable(f"the broker's limit of open files is not known: {error.reason}") from error
    finally:
        broker.close()
    if limit == 0:
        raise Notable("the broker does not tell its limit of open files yet")
    if limit < LEAST_HANDLES:
        raise ConfigError(
            f"RabbitMQ may open {limit} files, and stalls near them: a client takes one, a queue up to three. Give it "
            "65536: `LimitNOFILE=65536` for systemd, `ulimits: nofile` for containers"
        )
    return f"RabbitMQ may open {limit} files"


def _blobs(settings: BlobSettings) -> str:
    blobs = open_blobs(settings)
    key, data = keys.doctor_blob(secrets.token_hex(8)), b"fedmq doctor"
    ref = blobs.put(key, data)
    try:
        try:
            transfer.get(ref, blobs.presign_get(key, 60.0), timeout=5.0)
        except FedMQError as error:
            public = settings.minio_public_url or "the server's own address"
            raise ConfigError(
                f"a presigned URL does not lead back to the blob ({error.reason}): clients use {public}, "
                "see FEDN_MINIO_PUBLIC_URL"
            ) from error
    finally:
        blobs.delete(key)
    return f"S3 at {settings.minio_host}:{settings.minio_port}: written, fetched by a presigned URL, deleted"


def _clock(settings: BlobSettings) -> str:
    url = f"{'https' if settings.minio_tls else 'http'}://{settings.minio_host}:{settings.minio_port}/"
    try:
        with urllib3.PoolManager(ssl_context=tls.context()) as pool:
            answer = pool.request("GET", url, timeout=5.0, retries=False)
        skew = time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (urllib3.exceptions.HTTPError, KeyError, ValueError) as error:
        raise Notable(f"the S3 server does not tell its time ({type(error).__name__})") from error
    words = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the S3 server's"
    if abs(skew) > MOST_SKEW:
        raise ConfigError(f"{words}: presigned URLs will be refused; let both keep time by NTP")
    if abs(skew) > NOTABLE_SKEW:
        raise Notable(f"{words}: reducers' leases need clocks that agree to a second or two; use NTP")
    return f"agrees with the S3 server's to {max(1.0, abs(skew)):.0f} s"


def _records(settings: Any) -> str:
    records = open_records(settings)
    key = secrets.token_hex(8)
    try:
        records.insert("doctor", key, {"is": "well"})
        if records.insert("doctor", key, {"is": "doubled"}) is None:
            raise ConfigError("the record store takes a key twice: it is no MongoDB that rounds can be committed to")
        records.delete("doctor", {"is": "well"})
        return f"MongoDB {records.version()} at {settings.mongo_host}: keys are unique, documents can be written"
    finally:
        records.close()


def _package(settings: ClientSettings) -> str:
    from fedmq_client.packages.package import load

    package = load(settings.package)
    return f"{settings.package}, sha256 {package.sha256[:12]}…"
