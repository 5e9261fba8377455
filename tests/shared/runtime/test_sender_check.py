"""A message counts only if it may come from where it says."""

from __future__ import annotations

import pytest

from fedmq.brokers.base import Delivery
from fedmq.codec import MSGPACK
from fedmq.errors import ProtocolError
from fedmq.runtime.peers.sender_check import SenderCheck
from fedmq_schemas.messages import Envelope
from fedmq_schemas.routes import PARAMETERS, ROUTES, Route
from fedmq_schemas.topology import Queue, Topology

ALLIANCE = Topology("a")
SERVERS = "servers"
INBOXES = {
    "reducer": ALLIANCE.reducer(),
    "combiner": ALLIANCE.combiner("k1"),
    "client": ALLIANCE.client("c1"),
    "records": ALLIANCE.records(),
}


def delivery(exchange: str, key: str, user: str | None) -> Delivery:
    return Delivery(1, "inbox", ALLIANCE.exchange(exchange), key, b"", "id", MSGPACK, False, user)


def envelope(kind: str, sender: str) -> Envelope:
    return Envelope(kind=kind, id="id", alliance="a", sender=sender, sent_at=0.0)


def check(
    kind: str,
    exchange: str,
    key: str,
    inbox: Queue,
    *,
    sender: str = "c1",
    user: str | None = None,
    servers: str | None,
) -> None:
    SenderCheck(inbox, ALLIANCE, servers).check(delivery(exchange, key, user or sender), envelope(kind, sender))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.sender}-{route.kind}-{route.receiver}")
def test_every_way_of_every_message_is_open(route: Route) -> None:
    names = {"client": "c1", "combiner": "k1", "session": "s1", "name": "round.committed"}
    assert names.keys() == PARAMETERS.keys()
    sender = names.get(route.sender, route.sender)
    user = sender if route.sender in ("client", "starter") else SERVERS
    key = route.key.format_map(names)
    for servers in (SERVERS, None):
        check(route.kind, route.exchange, key, INBOXES[route.receiver], sender=sender, user=user, servers=servers)


SMUGGLED = {
    "another client's mailbox, by a further key": ("grant", "assignment", "assignment.reducer.c2", "client"),
    "the task of another's mailbox, by a further key": ("task", "update", "update.k1.c2", "client"),
    "a mailbox, past the exchanges": ("task", "", ALLIANCE.client("c1").name, "client"),
    "the reducer, by a further key": ("validation", "update", "update.k1.c1", "reducer"),
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_a_message_that_was_published_to_another_address_is_refused(what: str) -> None:
    kind, exchange, key, inbox = SMUGGLED[what]
    with pytest.raises(ProtocolError, match="is not bound to"):
        check(kind, exchange, key, INBOXES[inbox], servers=SERVERS)


@pytest.mark.parametrize(
    ("kind", "key", "inbox"),
    [
        ("start", "assignment.reducer.c1", "reducer"),
        ("stop", "assignment.reducer.c1", "reducer"),
        ("grant", "assignment.reducer.c1", "reducer"),
        ("partial", "assignment.reducer.c1", "reducer"),
        ("task", "assignment.c1", "client"),
    ],
)
def test_an_address_carries_its_own_kinds_only(kind: str, key: str, inbox: str) -> None:
    with pytest.raises(ProtocolError, match=f"a {kind} message does not go to '{key}'"):
        check(kind, "assignment", key, INBOXES[inbox], servers=SERVERS)


@pytest.mark.parametrize("user", ["c1", "c2", None])
@pytest.mark.parametrize(
    ("kind", "exchange", "key", "inbox"),
    [
        ("combiner_hello", "assignment", "assignment.reducer.c1", "reducer"),
        ("combiner_presence", "assignment", "assignment.reducer.c1", "reducer"),
        ("partial", "update", "update.reducer.c1", "reducer"),
        ("plan", "task", "plan.k1", "combiner"),
    ],
)
def test_nobody_but_the_servers_account_is_a_server(
    kind: str, exchange: str, key: str, inbox: str, user: str | None
) -> None:
    message = delivery(exchange, key, user)
    with pytest.raises(ProtocolError, match="only the alliance's servers"):
        SenderCheck(INBOXES[inbox], ALLIANCE, SERVERS).check(message, envelope(kind, "c1"))
    SenderCheck(INBOXES[inbox], ALLIANCE, None).check(message, envelope(kind, "c1"))


def test_a_sender_is_the_one_of_the_address() -> None:
    with pytest.raises(ProtocolError, match="names the sender 'c2' but was published as 'c1'"):
        check("client_hello", "update", "update.k1.c1", INBOXES["combiner"], sender="c2", servers=SERVERS)


def test_an_address_that_is_known_vouches_for_nobody_else() -> None:
    origin = SenderCheck(ALLIANCE.combiner("k1"), ALLIANCE, None)
    message = delivery("update", "update.k1.c1", "c1")
    origin.check(message, envelope("update", "c1"))
    with pytest.raises(ProtocolError, match="names the sender 'c2'"):
        origin.check(message, envelope("update", "c2"))
    origin.check(message, envelope("update", "c1"))
