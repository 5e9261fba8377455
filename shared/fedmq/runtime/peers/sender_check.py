"""Verifies that a message's sender may publish this kind of message to the address that it has.

RabbitMQ restricts the routing keys that a client's account may write to, and verifies `user_id` where a message has one.
That leaves two holes, which are closed here: RabbitMQ 3 does not check the further keys in the headers `CC` and `BCC`, and
a client's own address could carry a kind of message that only others may send. For events see `event_stream`.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from fedmq import codec
from fedmq.brokers.base import Delivery
from fedmq.errors import ProtocolError
from fedmq_schemas.messages import Envelope
from fedmq_schemas.role_accounts import server_accounts
from fedmq_schemas.routes import ROUTES, Route
from fedmq_schemas.topology import REDUCER, Queue, Topology

_BY_KIND: dict[str, list[Route]] = defaultdict(list)
for _route in ROUTES:
    _BY_KIND[_route.kind].append(_route)


MOST_KNOWN = 4096
"""Number of addresses that an inbox remembers, at some hundred bytes each: enough for a thousand clients.

Looking up an address takes six times as long as remembering it, at thousands of messages a round.
"""


class SenderCheck:
    """Checks the messages of one inbox.

    - `servers`: the account of this process, which is a server; None: accounts are not checked. The other servers have the
      same account, or those of their roles (`role_accounts`).
    - `is_addressed_by_servers`: only the servers may write to this inbox, with an account whose name it does not know.
    """

    def __init__(
        self, inbox: Queue, topology: Topology, servers: str | None, *, is_addressed_by_servers: bool = False
    ) -> None:
        self._inbox = inbox
        self._topology = topology
        self._servers = server_accounts(topology, servers)
        self._is_addressed_by_servers = is_addressed_by_servers
        self._known: dict[tuple[str, str, str], tuple[str | None, bool]] = {}

    def account(self, delivery: Delivery) -> str | None:
        """Returns the account whose name the sender must have; None where the account does not identify the sender."""
        is_shared = self._is_addressed_by_servers or delivery.user in (self._servers or ())
        return None if is_shared else delivery.user

    def decode(self, delivery: Delivery) -> codec.Message:
        """Returns the message. Raises ProtocolError as `codec.decode` does, and as `check` does before the body is read."""
        return codec.decode(
            delivery.body,
            delivery.content_type,
            message_id=delivery.message_id,
            alliance=self._topology.alliance,
            user=self.account(delivery),
            check=partial(self.check, delivery),
        )

    def check(self, delivery: Delivery, envelope: Envelope) -> None:
        """Raises ProtocolError if the message breaks one of these rules.

        - The inbox is bound to the message's address, and messages of its kind have that address.
        - The sender is the one that the address names.
        - A message that only the alliance's servers send was published with their account.
        """
        address = envelope.kind, delivery.exchange, delivery.routing_key
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[address] = self._look_up(*address)
        sender, is_servers = known
        if sender is not None and sender != envelope.sender:
            raise ProtocolError(
                f"{envelope.kind} message names the sender {envelope.sender!r} but was published as {sender!r}"
            )
        if is_servers and self._servers is not None and delivery.user not in self._servers:
            raise ProtocolError(
                f"only the alliance's servers send a {envelope.kind} message, not the account {delivery.user!r}"
            )

    def _look_up(self, kind: str, exchange: str, key: str) -> tuple[str | None, bool]:
        """Returns the sender that a message with this address must have (None: any), and whether only servers send it."""
        if not self._inbox.receives(exchange, key):
            raise ProtocolError(f"it was published to {key!r}, which {self._inbox.name} is not bound to")
        senders = {
            route.sender
            for route in _BY_KIND[kind]
            if self._topology.exchange(route.exchange) == exchange and route.matches(key)
        }
        if not senders:
            raise ProtocolError(f"a {kind} message does not go to {key!r}")
        return _sender_in(key) or None, senders <= {"combiner", "reducer"}


def stated_sender(delivery: Delivery) -> str:
    """Returns who has sent a message that may be invalid: the name in its address, else its account; "" for neither.

    Where clients have accounts of their own, the broker verifies both. With a shared account the name is as stated.
    """
    return _sender_in(delivery.routing_key) or delivery.user or ""


def _sender_in(key: str) -> str:
    return key.rpartition(".")[2] if key.startswith(("update.", f"assignment.{REDUCER}.")) else ""
