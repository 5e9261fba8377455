"""Whether a message may come from where it says, by the way that it came.

RabbitMQ bounds the routing keys that a client's account may write to, and vouches for `user_id` where a message has one.
That alone leaves three holes, closed here: RabbitMQ 3 does not hold further keys in the headers `CC` and `BCC`
against those bounds, a client's own address could carry what only others may say, and an event may say what its address
does not.
"""

from __future__ import annotations

from collections import defaultdict

from fedmq.brokers.base import Delivery
from fedmq.errors import ProtocolError
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.routes import ROUTES, Role, Route
from fedmq_schemas.topology import CLIENT_EVENTS, Queue, Topology, event_key

_BY_KIND: dict[str, list[Route]] = defaultdict(list)
for _route in ROUTES:
    _BY_KIND[_route.kind].append(_route)


def check_origin(delivery: Delivery, envelope: Envelope, inbox: Queue, topology: Topology, servers: str | None) -> None:
    """Raises ProtocolError unless the inbox is bound to the message's address, its kind travels there, its sender is
    the one in that address, and what only the alliance's servers say was said under their account `servers` (None:
    accounts say nothing)."""
    key, kind = delivery.routing_key, envelope.kind
    if not inbox.receives(delivery.exchange, key):
        raise ProtocolError(f"it was published to {key!r}, which {inbox.name} is not bound to")
    senders = _senders(kind, delivery.exchange, key, topology)
    if not senders:
        raise ProtocolError(f"a {kind} message does not go to {key!r}")
    word = key.rpartition(".")[2]
    if key.startswith(("update.", "assignment.reducer.")) and word != envelope.sender:
        raise ProtocolError(f"{kind} message says it is from {envelope.sender!r} but was published as {word!r}")
    if servers is not None and senders <= {"combiner", "reducer"} and delivery.user != servers:
        raise ProtocolError(f"only the alliance's servers send a {kind} message, not the account {delivery.user!r}")


def check_event(delivery: Delivery, envelope: Envelope, event: Event) -> None:
    """Raises ProtocolError unless an event is what its address says and, if clients may tell such, about its sender."""
    if delivery.routing_key != event_key(event.session, event.name):
        raise ProtocolError(
            f"an event {event.name} of session {event.session} was published to {delivery.routing_key!r}"
        )
    if event.name in CLIENT_EVENTS and not {event.client, event.combiner} <= {None, envelope.sender}:
        raise ProtocolError(f"{envelope.sender!r} tells {event.name} of somebody else")


def _senders(kind: str, exchange: str, key: str, topology: Topology) -> set[Role]:
    return {
        route.sender for route in _BY_KIND[kind] if topology.exchange(route.exchange) == exchange and route.matches(key)
    }
