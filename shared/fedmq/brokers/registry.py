"""Opens brokers by the scheme of their URL. An adapter and its library are imported on first use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from fedmq.brokers.base import Administration, Broker
from fedmq.errors import ConfigError
from fedmq.scheduler import Scheduler

ADAPTERS: Mapping[str, str] = {
    "amqp": "fedmq.brokers.rabbitmq",
    "amqps": "fedmq.brokers.rabbitmq",
    "memory": "fedmq.brokers.memory",
}
"""The package of each scheme's adapter; see `Adapter`."""

SERVER_SCHEMES = tuple(scheme for scheme in ADAPTERS if scheme != "memory")
"""The schemes of brokers that several processes can reach."""


class Adapter(Protocol):
    """The functions of an adapter's package. Both connect to nothing yet, and raise ConfigError for a wrong URL."""

    def open_broker(self, url: str, scheduler: Scheduler) -> Broker:
        """Returns the broker at `url`. Its callbacks run on `scheduler`."""

    def open_administration(self, url: str, api_url: str | None) -> Administration:
        """Returns the administration of the broker at `url`. `api_url`: where its API is; None: the broker's default."""


def open_broker(url: str, scheduler: Scheduler) -> Broker:
    """Returns the broker at `url` (`amqp:`, `amqps:`, `memory:`). Raises ConfigError for a wrong URL."""
    return _find_adapter(url).open_broker(url, scheduler)


def open_administration(url: str, api_url: str | None = None) -> Administration:
    """Returns the administration of the broker at `url`. Raises ConfigError for a wrong URL, or if there is none."""
    return _find_adapter(url).open_administration(url, api_url)


def _find_adapter(url: str) -> Adapter:
    """Raises ConfigError if there is none. The message shows no part of the URL, which may hold a password."""
    name = ADAPTERS.get(url.partition(":")[0])
    if name is None:
        raise ConfigError(f"FEDN_AMQP_URL must begin with one of: {', '.join(f'{scheme}:' for scheme in ADAPTERS)}")
    return cast(Adapter, import_module(name))
