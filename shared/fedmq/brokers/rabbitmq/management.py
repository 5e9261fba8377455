"""A client of RabbitMQ's management API, which reports queues and nodes and changes accounts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3

from fedmq import tls
from fedmq.brokers.base import Depth, FileHandles
from fedmq.errors import ConfigError, NotFound, Transient

PORT = 15672
TIMEOUT = 5.0
FILES_OF_A_QUEUE = 3
_COLUMNS = "name,messages_ready,messages_unacknowledged,consumers"


class Management:
    """Calls the API with the account of `amqp_url`. `url`: where the API is; None: port 15672 of the broker's host."""

    def __init__(self, amqp_url: str, url: str | None = None) -> None:
        broker = urlsplit(amqp_url)
        host = f"[{broker.hostname}]" if ":" in (broker.hostname or "") else broker.hostname or "localhost"
        self.vhost = quote(unquote(broker.path.removeprefix("/")) or "/", safe="")
        """The vhost's name, quoted for paths of the API."""
        self._api = f"{(url or f'http://{host}:{PORT}').rstrip('/')}/api"
        self._user = unquote(broker.username or "guest")
        account = f"{self._user}:{unquote(broker.password or 'guest')}"
        self._headers = urllib3.make_headers(basic_auth=account) | {"Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(num_pools=1, timeout=TIMEOUT, retries=False, ssl_context=tls.context())

    def depths(self, alliance: str) -> list[Depth]:
        """Returns the depths of the alliance's queues, by name. Raises as `call`."""
        found = self.call("GET", f"queues/{self.vhost}?columns={_COLUMNS}")
        return sorted((_depth(each) for each in found if each["name"].startswith(f"{alliance}.")), key=lambda d: d.name)

    def file_handles(self) -> FileHandles:
        """Returns the limit of the cluster's smallest node. A connection takes one file, a queue up to three."""
        limit = min((int(node["fd_total"]) for node in self.call("GET", "nodes") if "fd_total" in node), default=0)
        totals = self.call("GET", "overview").get("object_totals", {})
        return FileHandles(limit, totals.get("connections", 0) + FILES_OF_A_QUEUE * totals.get("queues", 0))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Returns the decoded answer, None if it is empty. Raises NotFound for an unknown path.

        Raises Transient if the API can't be reached, and ConfigError if it refuses the account.
        """
        url = f"{self._api}/{path}"
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(method, url, body=data, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            explained = tls.explain_certificate_error(error)
            if explained is not None:
                raise ConfigError(f"RabbitMQ's management API at {self._api} {explained}") from error
            raise Transient(f"RabbitMQ's management API does not answer at {url}: {error}") from error
        if answer.status == 404:
            raise NotFound(f"RabbitMQ's management API knows no {path}")
        if answer.status in (401, 403):
            wanted = (
                "monitoring"
                if path.startswith(("queues", "nodes", "overview")) and method == "GET"
                else "administrator"
            )
            raise ConfigError(
                f"RabbitMQ's management API at {self._api} refuses the account {self._user!r}: {_remedy(self._user, wanted)}"
            )
        if not 200 <= answer.status < 300:
            raise Transient(f"RabbitMQ's management API answered {answer.status}")
        try:
            return answer.json() if answer.data else None
        except ValueError as error:
            raise Transient(f"{url} does not answer as RabbitMQ's management API does") from error

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()


def _remedy(user: str, tag: str) -> str:
    """Returns how an account gets in that has the right password. No role needs an administrator's."""
    if tag == "administrator":
        return "this needs an administrator's account: name one in FEDN_AMQP_URL for this command alone"
    return f"check its password, or give it the tag {tag} (rabbitmqctl set_user_tags {user} {tag})"


def _depth(found: Mapping[str, Any]) -> Depth:
    """Returns one queue's depth. A queue that was just declared has no numbers yet."""
    unacked = found.get("messages_unacknowledged")
    return Depth(found["name"], found.get("messages_ready", 0), unacked, found.get("consumers", 0))
