"""A message that can't be read is refused with a reason that names its sender, in the log and in the event."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import msgpack
import pytest

from fedmq import codec
from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import ProtocolError
from fedmq.runtime.actor import Actor, Observe
from fedmq.runtime.effects import CoreEvent, Effect, Now, Received
from fedmq.runtime.event_stream import decode_events
from fedmq.runtime.peers.sender_check import stated_sender
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.messages import VERSION, Attach, Body, ClientHello, CombinerHello, Event, Wait
from fedmq_schemas.topology import Topology, assignment_request_key, control_key

ALLIANCE = Topology("a")


class Listener:
    """A core that keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[Body] = []

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        if isinstance(event, Received):
            self.received.append(event.body)
        return ()


def encoded(body: Body, sender: str, version: int) -> bytes:
    envelope = {"kind": body.kind, "version": version, "id": "m1", "alliance": "a", "sender": sender, "sent_at": 0.0}
    return codec.encode(envelope, codec.fields_of(body))


def received(body: Body, sender: str, version: int, observe: Observe | None = None) -> tuple[list[Body], list[Event]]:
    """Returns what a reducer's actor receives of this message, and the events that it publishes."""
    message = Outgoing("a.assignment", assignment_request_key(sender), encoded(body, sender, version), "m1")
    return delivered(message, sender, observe)


def delivered(message: Outgoing, account: str, observe: Observe | None = None) -> tuple[list[Body], list[Event]]:
    """As `received`, of a message that this account publishes."""
    scheduler = VirtualScheduler()
    broker = MemoryBroker(scheduler)
    core, events = Listener(), list[Event]()
    actor = Actor(
        "reducer",
        core,
        broker.connect("reducer"),
        scheduler,
        ALLIANCE,
        inbox=ALLIANCE.reducer(),
        new_id=iter("123456").__next__,
        observe=observe,
    )
    observer = broker.connect("observer")

    def note(delivery: Delivery) -> None:
        events.extend(decode_events(delivery, "a", None)[1])

    observer.declare(ALLIANCE.records())
    observer.consume(ALLIANCE.records().name, 10, note)
    actor.start()
    broker.connect(account).publish(message)
    scheduler.run(limit=1.0)
    return core.received, events


def test_an_observer_that_fails_is_reported_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def observe(event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        if isinstance(event, Received):
            raise KeyError("span")

    with caplog.at_level(logging.ERROR, "fedmq"):
        bodies, events = received(CombinerHello(), "k7", VERSION, observe)
    assert bodies == [CombinerHello()]
    assert [event.data["reason"] for event in events if event.name == "actor.error"] == [
        "observing Received: KeyError('span')"
    ]


def test_a_hello_of_another_version_is_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fedmq"):
        bodies, [event] = received(CombinerHello(), "k7", VERSION + 1)
    assert bodies == []
    assert event.name == "message.refused" and event.data["sender"] == "k7"
    assert event.data["reason"].startswith(f"version {VERSION + 1} of combiner_hello is not spoken here")
    assert [vars(record)["sender"] for record in caplog.records] == ["k7"]


def packed(kind: str, body: object, message_id: str = "m1", **envelope: object) -> bytes:
    """A message as any program may write it."""
    data: bytes = msgpack.packb({"kind": kind, "id": message_id, "sender": "c1", **envelope, "body": body})
    return data


def test_a_refused_start_whose_id_is_200_letters_of_four_bytes_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The id of the report was over AMQP's 255 bytes, which ended the reducer, and the next one, for good."""
    data = packed("start", {"policy": {"rounds": -1}}, "\N{PILE OF POO}" * 200)
    bodies, events = delivered(Outgoing("a.control", control_key("start"), data, "m1"), "anna")
    assert bodies == []
    assert [event.name for event in events] == ["session.refused", "message.refused"]


@pytest.mark.parametrize("message_id", ["", "i" * 250, "nul\0"])
def test_a_refused_message_whose_id_no_event_can_name_is_reported_without_a_cause(message_id: str) -> None:
    """The recorder refused the event, so nobody saw the reason."""
    message = Outgoing("a.assignment", assignment_request_key("c1"), packed("nonsense", {}), message_id)
    _, [event] = delivered(message, "c1")
    assert event.name == "message.refused"


def test_a_start_at_another_address_is_refused_for_its_address_and_no_session_is_refused() -> None:
    """A client that was sent one published the refusal, which its account may not, and ended."""
    data = packed("start", {"policy": {"rounds": -1}}, "s1")
    _, events = delivered(Outgoing("a.assignment", assignment_request_key("c1"), data, "m1"), "c1")
    assert [event.name for event in events] == ["message.refused"]
    assert events[0].data["reason"] == "a start message does not go to 'assignment.reducer.c1'"


def test_the_refusal_of_a_start_names_the_account_and_not_who_the_message_says_it_is_from() -> None:
    data = packed("start", {"policy": {"rounds": -1}}, "s1", sender="somebody else")
    _, events = delivered(Outgoing("a.control", control_key("start"), data, "m1"), "anna")
    assert [event.data.get("sender") for event in events if event.name == "session.refused"] == ["anna"]


def test_an_attach_of_another_version_is_read_so_that_it_can_be_answered() -> None:
    bodies, events = received(Attach(speaks=(VERSION + 1, VERSION + 1)), "c7", VERSION + 1)
    assert bodies == [Attach(speaks=(VERSION + 1, VERSION + 1))] and not events


@pytest.mark.parametrize(("body", "is_read"), [(Wait(seconds=1.0, reason="r"), True), (ClientHello(), False)])
def test_only_messages_that_agree_on_a_version_are_read_in_each(body: Body, is_read: bool) -> None:
    data = encoded(body, "x", VERSION + 1)
    if is_read:
        assert codec.decode(data, codec.MSGPACK, message_id="m", alliance="a").body == body
    else:
        with pytest.raises(ProtocolError, match="is not spoken here"):
            codec.decode(data, codec.MSGPACK, message_id="m", alliance="a")


@pytest.mark.parametrize("sent_at", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_finite_number_is_refused_as_records_are_ordered_by_it(sent_at: float) -> None:
    envelope = {"kind": "client_hello", "id": "m1", "alliance": "a", "sender": "c1", "sent_at": sent_at}
    data = codec.encode(envelope, codec.fields_of(ClientHello()))
    with pytest.raises(ProtocolError, match="sent_at"):
        codec.decode(data, codec.MSGPACK, message_id="m", alliance="a")


@pytest.mark.parametrize(
    ("key", "user", "sender"),
    [
        ("assignment.reducer.c1", None, "c1"),
        ("update.k1.c1", "servers", "c1"),
        ("control.start", "anna", "anna"),
        ("control.start", None, ""),
    ],
)
def test_the_sender_is_the_name_in_the_address_or_the_account(key: str, user: str | None, sender: str) -> None:
    assert stated_sender(Delivery(1, "q", "a.x", key, b"", "m", codec.MSGPACK, False, user)) == sender
