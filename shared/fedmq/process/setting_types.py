"""Types of settings, with the form in which a variable writes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from fedmq.brokers.registry import SERVER_SCHEMES
from fedmq_schemas.messages import TaskName

# http[s]://host[:port]
SERVER = r"^https?://(\[[0-9a-fA-F:.]+\]|[^/?#@:\[\]\s]+)(:\d{1,5})?/?$"

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


Labels = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
TaskNames = Annotated[tuple[TaskName, ...], NoDecode, BeforeValidator(_items), Field(min_length=1)]


def _names_a_server(url: SecretStr) -> SecretStr:
    scheme, _, host = url.get_secret_value().partition("://")
    if scheme not in SERVER_SCHEMES or host[:1] in ("", "/"):
        known = " or ".join(f"{each}://" for each in SERVER_SCHEMES)
        raise ValueError(f"must begin with {known} and name a host")
    return url


BrokerUrl = Annotated[SecretStr, AfterValidator(_names_a_server)]
