"""An event is what its address says, about whom its sender may tell of."""

from __future__ import annotations

import pytest

from fedmq import codec
from fedmq.brokers.base import MSGPACK, Delivery, Outgoing
from fedmq.brokers.memory import MemoryBroker
from fedmq.errors import ProtocolError
from fedmq.listening import hear, observe
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.messages import Body, Cancel, Envelope, Event, PlanKey
from fedmq_schemas.topology import Topology, event_key

ALLIANCE = Topology("a")


def encoded(body: Body, sender: str) -> bytes:
    envelope = Envelope(kind=body.kind, id="m1", alliance="a", sender=sender, sent_at=1.0)
    return codec.encode(envelope.model_dump(), body.model_dump())


def told(name: str, key: str, *, sender: str = "c1", client: str | None = None, session: str | None = None) -> Event:
    event = Event(name=name, session=session, round=None, client=client, combiner=None)
    delivery = Delivery(1, "q", ALLIANCE.exchange("event"), key, encoded(event, sender), "m1", MSGPACK, False)
    envelope, [heard] = hear(delivery, "a")
    assert envelope.sender == sender
    return heard


def test_an_event_is_what_its_address_says() -> None:
    assert told("message.refused", "event.-.message.refused").name == "message.refused"
    told("round.committed", event_key("s1", "round.committed"), session="s1", sender="reducer")
    for name, session in (("round.committed", None), ("message.refused", "s1")):
        with pytest.raises(ProtocolError, match=r"was published to 'event\.-\.message\.refused'"):
            told(name, "event.-.message.refused", session=session)


def test_a_client_tells_faults_of_itself_only() -> None:
    told("actor.error", "event.-.actor.error", client="c1")
    with pytest.raises(ProtocolError, match="tells actor.error of somebody else"):
        told("actor.error", "event.-.actor.error", client="c2")
    told("client.joined", "event.-.client.joined", sender="k1", client="c2")


def test_what_an_observer_can_not_hear_does_not_end_it() -> None:
    scheduler = VirtualScheduler()
    broker = MemoryBroker(scheduler)
    heard: list[str] = []
    observe(broker.connect("page"), ALLIANCE.observer("page"), "a", lambda _, event: heard.append(event.name))
    scheduler.settle()
    key = event_key("s1", "round.planned")
    sound = encoded(Event(name="round.planned", session="s1", round=1, client=None, combiner=None), "reducer")
    cancel = encoded(Cancel(plan=PlanKey(session="s1", round=1)), "k1")
    for body in (b"no msgpack", cancel, sound):
        broker.connect("reducer").publish(Outgoing(ALLIANCE.exchange("event"), key, body, "m1"))
    scheduler.settle()
    assert heard == ["round.planned"]
