"""RabbitMQ as its administrators see it: the `Administration` port over AMQP and the management API."""

from __future__ import annotations

from collections.abc import Callable

from fedmq.brokers.base import Outgoing
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.brokers.rabbitmq.probe import ask, count_consumers, probe
from fedmq_schemas.topology import Topology


class RabbitmqAdministration(Management):
    """Administers the broker at `url`. `api_url`: see `Management`.

    The account of the URL needs the tag `monitoring` for `depths` and `file_handles`, and `administrator` for accounts.
    """

    def __init__(self, url: str, api_url: str | None = None) -> None:
        super().__init__(url, api_url)
        self._url = url

    def probe(self, topology: Topology | None, client: str | None = None) -> str:
        """Connects over AMQP; the management API is not used."""
        return probe(self._url, topology, client)

    def consumers(self, queue: str) -> int | None:
        """Declares the queue passively over AMQP, which needs no permission."""
        return count_consumers(self._url, queue)

    def ask(self, message: Outgoing, mailbox: str, is_answer: Callable[[bytes], bool]) -> bytes | None:
        """Publishes and reads over AMQP."""
        return ask(self._url, message, mailbox, is_answer)

    def accounts(self, topology: Topology) -> RabbitmqAccounts:
        """Returns the accounts with `client_permissions`."""
        return RabbitmqAccounts(self, topology)
