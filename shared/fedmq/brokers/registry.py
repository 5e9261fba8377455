"""The broker adapters, by the scheme of a broker's URL. An adapter and its library are imported on first use."""

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
    """What an adapter's package provides.

    - `open_broker(url, scheduler)`: a broker whose callbacks run on `scheduler`. Connects to nothing yet.
    - `open_administration(url, api_url)`: see `Administration`. `api_url` is where the administration's API is, None: the
      default of the broker's host.

    Both raise ConfigError if the URL can't be read.
    """

    def open_broker(self, url: str, scheduler: Scheduler) -> Broker: ...
    def open_administration(self, url: str, api_url: str | None) -> Administration: ...


def find_adapter(url: str) -> Adapter:
    """Returns the adapter for a broker's URL. Raises ConfigError if there is none; its text has no part of the URL, which
    may hold a password."""
    name = ADAPTERS.get(url.partition(":")[0])
    if name is None:
        raise ConfigError(f"FEDN_AMQP_URL must begin with one of: {', '.join(f'{scheme}:' for scheme in ADAPTERS)}")
    return cast(Adapter, import_module(name))
