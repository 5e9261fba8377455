"""An event has the session and name of its routing key, and is about a member that its sender may report on."""

from __future__ import annotations

import pytest

from fedmq import codec
from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.codec import MSGPACK
from fedmq.errors import ProtocolError
from fedmq.runtime.event_stream import decode_events, observe
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.limits import MOST_EVENTS, MOST_OF_CLIENT
from fedmq_schemas.messages import BatchedEvent, Body, Cancel, Envelope, Event, Events, PlanKey
from fedmq_schemas.topology import Topology, event_key

ALLIANCE = Topology("a")


def encoded(body: Body, sender: str) -> bytes:
    envelope = Envelope(kind=body.kind, id="m1", alliance="a", sender=sender, sent_at=1.0)
    return codec.encode(envelope.model_dump(), body.model_dump())


def reported(
    name: str, key: str, *, sender: str = "c1", client: str | None = None, session: str | None = None
) -> Event:
    event = Event(name=name, session=session, round=None, client=client, combiner=None)
    delivery = Delivery(1, "q", ALLIANCE.exchange("event"), key, encoded(event, sender), "m1", MSGPACK, False)
    envelope, [received] = decode_events(delivery, "a")
    assert envelope.sender == sender
    return received


def test_an_event_has_the_session_and_name_of_its_routing_key() -> None:
    assert reported("message.refused", "event.-.message.refused").name == "message.refused"
    reported("round.committed", event_key("s1", "round.committed"), session="s1", sender="reducer")
    for name, session in (("round.committed", None), ("message.refused", "s1")):
        with pytest.raises(ProtocolError, match=r"was published to 'event\.-\.message\.refused'"):
            reported(name, "event.-.message.refused", session=session)


def test_a_client_reports_only_its_own_faults() -> None:
    reported("actor.error", "event.-.actor.error", client="c1")
    with pytest.raises(ProtocolError, match=r"reports actor\.error of somebody else"):
        reported("actor.error", "event.-.actor.error", client="c2")
    reported("client.joined", "event.-.client.joined", sender="k1", client="c2")


def together(
    *events: BatchedEvent, key: str, sender: str = "c1", user: str | None = None, is_client: bool = False
) -> list[str]:
    """The ids of the events in a message."""
    body = encoded(Events(events=events), sender)
    _, received = decode_events(
        Delivery(1, "q", ALLIANCE.exchange("event"), key, body, "m1", MSGPACK, False), "a", user, is_client=is_client
    )
    return [event.id for event in received if isinstance(event, BatchedEvent)]


def one_of(
    number: int, name: str = "actor.error", client: str | None = "c1", session: str | None = None
) -> BatchedEvent:
    return BatchedEvent(id=f"e{number}", name=name, session=session, client=client)


def test_events_of_one_message_are_received_in_order() -> None:
    assert together(one_of(1), one_of(2), one_of(3), key="event.-.actor.error") == ["e1", "e2", "e3"]
    key = event_key("s1", "update.accepted")
    accepted = [one_of(number, "update.accepted", f"c{number}", "s1") for number in range(3)]
    assert together(*accepted, key=key, sender="k1") == ["e0", "e1", "e2"]


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (one_of(9, "message.refused"), r"message\.refused of session None was published to 'event\.-\.actor\.error'"),
        (one_of(9, session="s1"), r"of session s1 was published to 'event\.-\.actor\.error'"),
        (one_of(9, client="c2"), "'c1' reports actor.error of somebody else"),
    ],
    ids=["another name", "another session", "of somebody else"],
)
def test_a_message_in_which_one_event_contradicts_the_routing_key_is_refused(
    odd: BatchedEvent, reason: str, at: int
) -> None:
    events = [one_of(1), one_of(2)]
    events.insert(at, odd)
    with pytest.raises(ProtocolError, match=reason):
        together(*events, key="event.-.actor.error")


def test_a_message_of_a_client_holds_few_events_and_one_of_a_server_many() -> None:
    faults = [one_of(number) for number in range(MOST_OF_CLIENT + 1)]
    key = "event.-.actor.error"
    assert len(together(*faults[1:], key=key, user="c1", is_client=True)) == MOST_OF_CLIENT
    with pytest.raises(ProtocolError, match="a message of 'c1' holds 11 events: at most 10 are received"):
        together(*faults, key=key, user="c1", is_client=True)
    assert len(together(*faults, key=key, user="c1")) == MOST_OF_CLIENT + 1


@pytest.mark.parametrize(
    "data", [{"a": [{}] * 3}, {"a": {}}, {str(number): number for number in range(17)}], ids=["list", "map", "many"]
)
def test_the_data_of_an_event_that_clients_may_publish_is_small(data: dict[str, object]) -> None:
    def publish(name: str, data: dict[str, object]) -> None:
        event = Event(name=name, client="c1", data=data)
        key, body = event_key(None, name), encoded(event, "c1")
        decode_events(Delivery(1, "q", ALLIANCE.exchange("event"), key, body, "m1", MSGPACK, False), "a")

    publish("actor.error", {"reason": "x" * 2000, "traceback": "y" * 8000, "actor": "c1"})
    publish("client.joined", data)
    with pytest.raises(ProtocolError, match=r"the data of an event actor\.error is at most 16 texts and numbers"):
        publish("actor.error", data)


def test_a_message_of_events_is_its_senders_and_has_at_least_one() -> None:
    with pytest.raises(ProtocolError, match="the broker names 'c2'"):
        together(one_of(1), key="event.-.actor.error", user="c2")
    documents: tuple[dict[str, object], ...] = (
        {"events": []},
        {"events": [{"name": "actor.error", "client": "c1"}]},
        {"events": [{"name": "actor.error", "id": str(number)} for number in range(MOST_EVENTS + 1)]},
        {},
    )
    for document in documents:
        body = codec.encode(
            Envelope(kind="events", id="m", alliance="a", sender="c1", sent_at=0).model_dump(), document
        )
        with pytest.raises(ProtocolError, match="events message: events"):
            decode_events(Delivery(1, "q", ALLIANCE.exchange("event"), "event.-.x.y", body, "m", MSGPACK, False), "a")


def test_an_observer_receives_each_event_of_a_message() -> None:
    scheduler = VirtualScheduler()
    broker = MemoryBroker(scheduler)
    received: list[str | None] = []
    observe(broker.connect("page"), ALLIANCE.observer("page"), "a", lambda _, event: received.append(event.client))
    scheduler.settle()
    body = encoded(Events(events=tuple(one_of(number, "client.joined", f"c{number}") for number in range(3))), "k1")
    key = event_key(None, "client.joined")
    broker.connect("k1").publish(Outgoing(ALLIANCE.exchange("event"), key, body, "m1"))
    scheduler.settle()
    assert received == ["c0", "c1", "c2"]


def test_an_observer_ignores_an_invalid_event() -> None:
    scheduler = VirtualScheduler()
    broker = MemoryBroker(scheduler)
    received: list[str] = []
    observe(broker.connect("page"), ALLIANCE.observer("page"), "a", lambda _, event: received.append(event.name))
    scheduler.settle()
    key = event_key("s1", "round.planned")
    sound = encoded(Event(name="round.planned", session="s1", round=1, client=None, combiner=None), "reducer")
    cancel = encoded(Cancel(plan=PlanKey(session="s1", round=1)), "k1")
    for body in (b"no msgpack", cancel, sound):
        broker.connect("reducer").publish(Outgoing(ALLIANCE.exchange("event"), key, body, "m1"))
    scheduler.settle()
    assert received == ["round.planned"]
