"""RabbitMQ's management API, as far as it is read: how full the queues are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3

from fedmq.brokers.depths import Depth
from fedmq.errors import ConfigError, Transient

PORT = 15672
TIMEOUT = 5.0
_COLUMNS = "name,messages_ready,messages_unacknowledged,consumers"


class Management:
    """Asks as the account of `amqp_url`, which needs the tag `monitoring` or `management`. `url`: where the API is; None:
    port 15672 of the broker's host."""

    def __init__(self, amqp_url: str, url: str | None = None) -> None:
        broker = urlsplit(amqp_url)
        host = f"[{broker.hostname}]" if ":" in (broker.hostname or "") else broker.hostname or "localhost"
        vhost = unquote(broker.path.removeprefix("/")) or "/"
        self._api = f"{(url or f'http://{host}:{PORT}').rstrip('/')}/api"
        self._url = f"{self._api}/queues/{quote(vhost, safe='')}"
        account = f"{unquote(broker.username or 'guest')}:{unquote(broker.password or 'guest')}"
        self._headers = urllib3.make_headers(basic_auth=account)
        self._pool = urllib3.PoolManager(num_pools=1, timeout=TIMEOUT, retries=False)

    def depths(self, alliance: str) -> list[Depth]:
        """The alliance's queues, by name. Raises Transient if the API can't be reached, ConfigError if it refuses."""
        found = self._get(self._url, {"columns": _COLUMNS})
        return sorted((_depth(each) for each in found if each["name"].startswith(f"{alliance}.")), key=lambda d: d.name)

    def file_handles(self) -> int:
        """How many files and connections the smallest node of the cluster may hold open. Raises as `depths` does."""
        return min(
            (int(node["fd_total"]) for node in self._get(f"{self._api}/nodes", {}) if "fd_total" in node), default=0
        )

    def _get(self, url: str, fields: Mapping[str, str]) -> Any:
        try:
            answer = self._pool.request("GET", url, fields=dict(fields), headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise Transient(f"RabbitMQ's management API does not answer at {url}: {error}") from error
        if answer.status in (401, 403):
            raise ConfigError(
                "RabbitMQ's management API refuses this account: give it the tag monitoring "
                "(rabbitmqctl set_user_tags USER monitoring)"
            )
        if answer.status != 200:
            raise Transient(f"RabbitMQ's management API answered {answer.status}")
        try:
            return answer.json()
        except ValueError as error:
            raise Transient(f"{url} does not answer as RabbitMQ's management API does") from error

    def close(self) -> None:
        self._pool.clear()


def _depth(found: Mapping[str, Any]) -> Depth:
    """A queue that was made a moment ago has no numbers yet."""
    unacked = found.get("messages_unacknowledged")
    return Depth(found["name"], found.get("messages_ready", 0), unacked, found.get("consumers", 0))
