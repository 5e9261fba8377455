"""Whether a message may come from where it says, by the way that it came.

RabbitMQ bounds the routing keys that a client's account may write to, and vouches for `user_id` where a message has one.
That alone leaves two holes, closed here: RabbitMQ 3 does not hold further keys in the headers `CC` and `BCC` against
those bounds, and a client's own address could carry what only others may say. For events see `listening`.
"""

from __future__ import annotations

from collections import defaultdict

from fedmq.brokers.base import Delivery
from fedmq.errors import ProtocolError
from fedmq_schemas.messages import Envelope
from fedmq_schemas.routes import ROUTES, Route
from fedmq_schemas.topology import Queue, Topology

_BY_KIND: dict[str, list[Route]] = defaultdict(list)
for _route in ROUTES:
    _BY_KIND[_route.kind].append(_route)


MOST_KNOWN = 4096
"""Addresses that an inbox remembers, some hundred bytes each: those of a thousand clients and more."""


class SenderCheck:
    """What may come into one inbox. `servers`: the account of the alliance's servers; None: accounts say nothing."""

    def __init__(self, inbox: Queue, topology: Topology, servers: str | None) -> None:
        self._inbox = inbox
        self._topology = topology
        self._servers = servers
        self._known: dict[tuple[str, str, str], tuple[str | None, bool]] = {}

    def check(self, delivery: Delivery, envelope: Envelope) -> None:
        """Raises ProtocolError unless the inbox is bound to the message's address, its kind travels there, its sender is
        the one in that address, and what only the alliance's servers say was said under their account."""
        way = envelope.kind, delivery.exchange, delivery.routing_key
        known = self._known.get(way)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[way] = self._look_up(*way)
        word, is_servers = known
        if word is not None and word != envelope.sender:
            raise ProtocolError(
                f"{envelope.kind} message says it is from {envelope.sender!r} but was published as {word!r}"
            )
        if is_servers and self._servers is not None and delivery.user != self._servers:
            raise ProtocolError(
                f"only the alliance's servers send a {envelope.kind} message, not the account {delivery.user!r}"
            )

    def _look_up(self, kind: str, exchange: str, key: str) -> tuple[str | None, bool]:
        """Who must have sent what has this address, None: anybody; and whether only servers send it."""
        if not self._inbox.receives(exchange, key):
            raise ProtocolError(f"it was published to {key!r}, which {self._inbox.name} is not bound to")
        senders = {
            route.sender
            for route in _BY_KIND[kind]
            if self._topology.exchange(route.exchange) == exchange and route.matches(key)
        }
        if not senders:
            raise ProtocolError(f"a {kind} message does not go to {key!r}")
        names_sender = key.startswith(("update.", "assignment.reducer."))
        return key.rpartition(".")[2] if names_sender else None, senders <= {"combiner", "reducer"}
