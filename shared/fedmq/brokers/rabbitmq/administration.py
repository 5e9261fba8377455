"""RabbitMQ as its administrators see it: the `Administration` port over AMQP and the management API."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.brokers.base import Depth
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.brokers.rabbitmq.probe import probe
from fedmq_schemas.topology import Topology


class RabbitmqAdministration:
    """Administers the broker at `url`. `api_url`: see `Management`.

    The account of the URL needs the tag `monitoring` for `depths` and `file_handles`, and `administrator` for accounts.
    """

    def __init__(self, url: str, api_url: str | None = None) -> None:
        self._url = url
        self._management = Management(url, api_url)

    def probe(self, topology: Topology | None, client: str | None = None) -> str:
        """Connects over AMQP; the management API is not used."""
        return probe(self._url, topology, client)

    def depths(self, alliance: str) -> Sequence[Depth]:
        """Reads the queues from the management API."""
        return self._management.depths(alliance)

    def file_handles(self) -> int:
        """Returns the limit of the cluster's smallest node."""
        return self._management.file_handles()

    def accounts(self, topology: Topology) -> RabbitmqAccounts:
        """Returns the accounts with `client_permissions`."""
        return RabbitmqAccounts(self._management, topology)

    def close(self) -> None:
        """Closes the connections to the management API."""
        self._management.close()
