"""Types of settings, with the form in which a variable writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from fedmq.brokers.registry import SERVER_SCHEMES
from fedmq.error_detail import ErrorDetail
from fedmq.records import mongo_address
from fedmq_schemas import bounds
from fedmq_schemas.messages import TaskName

# http[s]://host[:port]
SERVER = r"^https?://(\[[0-9a-fA-F:.]+\]|[^/?#@:\[\]\s]+)(:\d{1,5})?/?$"

DAY = 24 * 3600.0
"""In seconds."""

Port = Annotated[int, Field(ge=1, le=65535)]


def _pairs(value: Any) -> Any:
    """Returns `site=north,kind=mri` as a dict."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError("write it as name=value,name=value")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _items(value: Any) -> Any:
    """Returns `train,validate` as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Labels = Annotated[bounds.LabelMap, NoDecode, BeforeValidator(_pairs)]
ErrorDetailName = Annotated[
    ErrorDetail,
    Field(
        alias="FEDN_ERROR_DETAIL",
        description="what leaves the site of an error; class: its class; frames: also file, line and function of the "
        "trainer's own code; full: also its text, and what the trainer printed; the log here always has all of it",
    ),
]
TaskNames = Annotated[tuple[TaskName, ...], NoDecode, BeforeValidator(_items), Field(min_length=1, max_length=8)]

CaFile = Annotated[
    Path | None,
    Field(
        alias="FEDN_CA_FILE",
        description="PEM file of further authorities to trust for broker, S3 server, REST API and traces, and of those "
        "to trust for MongoDB; none: the system's",
    ),
]
ManagementUrl = Annotated[
    str | None,
    Field(
        alias="FEDN_RABBITMQ_MANAGEMENT_URL",
        pattern=SERVER,
        description="http[s]://host[:port] of RabbitMQ's management API, for the dashboard's queues and for accounts; "
        "none: the broker's host, port 15672",
    ),
]
PublicUrl = Annotated[
    str | None,
    Field(
        alias="FEDN_MINIO_PUBLIC_URL",
        pattern=SERVER,
        description="http[s]://host[:port] where clients reach the S3 server; none: the address that reducer and combiner "
        "use; at a client only `fedmq doctor` reads it",
    ),
]

PublishedOn = Annotated[
    str | None,
    Field(
        alias="FEDN_PUBLISHED_ON",
        pattern=r"^(localhost|[0-9.]+|[0-9a-fA-F:.]+|\[[0-9a-fA-F:.]+\])$",
        description="address that a container engine or a proxy publishes this process's ports on, which decides whether "
        "they need a token; 127.0.0.1 also where a container publishes none; none: the addresses that they listen on",
    ),
    AfterValidator(lambda address: address and address.strip("[]")),
]

TracesUrl = Annotated[
    str | None,
    Field(
        alias="FEDN_TRACES_URL",
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="http[s]://host[:port] of a collector of OpenTelemetry (OTLP over HTTP), which gets a trace of each "
        "round; needs fedmq[traces]; none: no traces",
    ),
]

InboxDays = Annotated[
    float,
    Field(
        alias="FEDN_INBOX_DAYS", gt=0, description="days after which the inbox of a combiner that is away is deleted"
    ),
]

RecordDays = Annotated[
    float | None,
    Field(
        alias="FEDN_RECORD_DAYS",
        gt=0,
        description="days after which events, and the attempts and partials of ended sessions, are deleted; none: kept",
    ),
]

MongoTls = Annotated[bool, Field(alias="FEDN_MONGO_TLS", description="whether MongoDB speaks TLS")]


def _names_mongodb(url: SecretStr) -> SecretStr:
    scheme, _, rest = url.get_secret_value().partition("://")
    if scheme not in mongo_address.SCHEMES or rest.rpartition("@")[2][:1] in ("", "/", "?"):
        raise ValueError("must begin with mongodb:// or mongodb+srv:// and name a host")
    return url


MongoUrl = Annotated[
    SecretStr | None,
    Field(
        alias="FEDN_MONGO_URL",
        description="all of it in one: mongodb[+srv]://user:password@host/?options, percent-encoded; none: the other "
        "settings of MongoDB hold",
    ),
    AfterValidator(lambda url: url and _names_mongodb(url)),
]


def _names_a_server(url: SecretStr) -> SecretStr:
    scheme, _, host = url.get_secret_value().partition("://")
    if scheme not in SERVER_SCHEMES or host[:1] in ("", "/"):
        known = " or ".join(f"{each}://" for each in SERVER_SCHEMES)
        raise ValueError(f"must begin with {known} and name a host")
    return url


def _host_alone(text: str, info: ValidationInfo) -> str:
    """Returns a host without scheme and port. Raises ValueError that names the variables to write instead."""
    name = f"FEDN_{(info.field_name or '').upper()}"
    if text.count(":") > 1 and "://" not in text and "@" not in text and not text.startswith("["):
        raise ValueError(f"is an IPv6 address, which needs brackets: write {name}=[{text}]")
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"must be a host alone: write {name}=s3.example or {name}=[::1]")
    host = f"[{host}]" if ":" in host else host
    if parts.scheme or port is not None:
        port = port or {"https": 443, "http": 80}.get(parts.scheme)
        more = "" if port is None else f", {name.removesuffix('HOST')}PORT={port}"
        more += f", {name.removesuffix('HOST')}TLS=true" if parts.scheme == "https" else ""
        raise ValueError(f"must be a host alone: write {name}={host}{more}")
    return text


Host = Annotated[str, AfterValidator(_host_alone)]
BrokerUrl = Annotated[SecretStr, AfterValidator(_names_a_server)]
