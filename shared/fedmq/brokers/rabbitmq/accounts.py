"""Clients' accounts at RabbitMQ, each with the permissions of `client_permissions` and the limits of `CLIENT_LIMITS`."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from fedmq.brokers.base import CLIENT_LIMITS, AccountLimits
from fedmq.brokers.rabbitmq.management import Management
from fedmq.errors import ConfigError, NotFound
from fedmq_schemas.topology import Permissions, Topology, client_permissions, is_name

PASSWORD_BYTES = 24
CONNECTIONS, CHANNELS = "max-connections", "max-channels"


class RabbitmqAccounts:
    """The accounts of one alliance. The account of `management` needs the tag `administrator`."""

    def __init__(self, management: Management, topology: Topology) -> None:
        self._management = management
        self._topology = topology

    def add(self, client: str) -> str:
        """Grants the permissions last: until then the account can't connect."""
        self._exists(client)
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        permissions = client_permissions(self._topology, client)
        user, vhost = quote(client, safe=""), self._management.vhost
        self._management.call("PUT", f"users/{user}", {"password": password, "tags": ""})
        for exchange, pattern in permissions.topic_write.items():
            body = {"exchange": exchange, "write": pattern, "read": permissions.topic_read.get(exchange, "^$")}
            self._management.call("PUT", f"topic-permissions/{vhost}/{user}", body)
        self._limit(user)
        # Without these it can't connect, so it never has more permissions than in the end.
        self._management.call("PUT", f"permissions/{vhost}/{user}", _plain(permissions))
        return password

    def limit(self, client: str) -> bool:
        """Replaces both limits."""
        if not self._exists(client):
            return False
        self._limit(quote(client, safe=""))
        return True

    def _limit(self, user: str) -> None:
        for name, value in ((CONNECTIONS, CLIENT_LIMITS.connections), (CHANNELS, CLIENT_LIMITS.channels)):
            self._management.call("PUT", f"user-limits/{user}/{name}", {"value": value})

    def limits(self) -> dict[str, AccountLimits]:
        """Reads the limits of all accounts at once. RabbitMQ lists those that have any."""
        found = {each["user"]: each["value"] for each in self._management.call("GET", "user-limits")}
        limits = {name: found.get(name, {}) for name in self.names()}
        return {name: AccountLimits(each.get(CONNECTIONS), each.get(CHANNELS)) for name, each in limits.items()}

    def revoke(self, client: str) -> bool:
        """RabbitMQ closes the connections of a deleted account."""
        if not self._exists(client):
            return False
        self._management.call("DELETE", f"users/{quote(client, safe='')}")
        mailbox = quote(self._topology.client(client).name, safe="")
        with suppress(NotFound):  # the client never attached
            self._management.call("DELETE", f"queues/{self._management.vhost}/{mailbox}")
        return True

    def names(self) -> list[str]:
        """Returns the accounts whose permissions are those of a client of this alliance."""
        found = self._management.call("GET", f"vhosts/{self._management.vhost}/permissions")
        return sorted(each["user"] for each in found if self._is_ours(each))

    def _exists(self, client: str) -> bool:
        """Returns whether the account exists. Raises ConfigError if it is not a client's of this alliance."""
        if not is_name(client):
            raise ConfigError(f"{client!r} can't be a client's name: letters, digits, - and _, at most 64")
        user = quote(client, safe="")
        try:
            tags = self._management.call("GET", f"users/{user}")["tags"]
        except NotFound:
            return False
        granted = self._management.call("GET", f"users/{user}/permissions")
        # An account without permissions is left by an `add` that was interrupted.
        if tags or not all(self._is_ours(each) for each in granted):
            raise ConfigError(
                f"the account {client!r} exists, and is not a client's of alliance {self._topology.alliance}"
            )
        return True

    def _is_ours(self, granted: dict[str, Any]) -> bool:
        wanted = _plain(client_permissions(self._topology, granted["user"]))
        return quote(granted["vhost"], safe="") == self._management.vhost and wanted.items() <= granted.items()


def _plain(permissions: Permissions) -> dict[str, str]:
    return {"configure": permissions.configure, "write": permissions.write, "read": permissions.read}
