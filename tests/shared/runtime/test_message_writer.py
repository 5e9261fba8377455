"""Events that come at once travel together, in order, and nothing overtakes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest

from fedmq.brokers.base import Delivery
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.runtime.actor import Actor
from fedmq.runtime.effects import Ack, CoreEvent, Effect, Now, Publish, PublishEvent, Received, Reject, Started
from fedmq.runtime.event_stream import decode_events
from fedmq.runtime.message_writer import MessageWriter
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.limits import MOST_EVENTS, MOST_OF_CLIENT
from fedmq_schemas.messages import MAX_BODY, BatchedEvent, ClientHello, Event, Events
from fedmq_schemas.topology import Topology, update_key

ALLIANCE = Topology("a")


class World:
    """A broker whose event exchange is read: `messages` has the messages published there, in order."""

    def __init__(self) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = MemoryBroker(self.scheduler)
        self.messages: list[Delivery] = []
        self.numbers = itertools.count(1)
        reader = self.broker.connect("reader")
        reader.declare(ALLIANCE.observer("reader"))
        reader.consume(ALLIANCE.observer("reader").name, 0, self.messages.append)
        self.scheduler.settle()
        self.connection = self.broker.connect("k1")
        self.writer = MessageWriter("k1", self.connection, self.scheduler, ALLIANCE, self.new_id, {})

    def new_id(self) -> str:
        return f"m{next(self.numbers)}"

    def emit(self, *events: PublishEvent, cause: str | None = None) -> None:
        for event in events:
            self.writer.add_event(event, cause)

    @property
    def reported(self) -> list[list[Event]]:
        """The events, by the message that they came in."""
        self.scheduler.settle()
        return [list(decode_events(message, "a")[1]) for message in self.messages]


@pytest.fixture
def world() -> World:
    return World()


def accepted(client: str, session: str | None = "s1", **data: Any) -> PublishEvent:
    return PublishEvent("update.accepted", session, 1, client, "k1", data)


def clients(reported: Sequence[Sequence[Event]]) -> list[list[str | None]]:
    return [[event.client for event in events] for events in reported]


def test_one_event_is_a_message_of_its_own_with_its_id_and_cause(world: World) -> None:
    world.emit(PublishEvent("round.committed", "s1", 1, data={"x": 1}, id="round-1"), cause="m0")
    [[event]] = world.reported
    envelope, _ = decode_events(world.messages[0], "a")
    assert type(event) is Event and event.data == {"x": 1}
    assert (envelope.kind, envelope.id, envelope.cause) == ("event", "round-1", "m0")


def test_events_of_one_name_session_and_turn_share_a_message_with_ids_and_causes_of_their_own(
    world: World,
) -> None:
    world.emit(accepted("c1"), cause="because-1")
    world.emit(PublishEvent("update.accepted", "s1", 1, "c2", "k1", {"x": 2}, id="derived"), cause="because-2")
    world.emit(accepted("c3"))
    [events] = world.reported
    assert all(isinstance(event, BatchedEvent) for event in events)
    ids = [(event.id, event.cause) for event in events if isinstance(event, BatchedEvent)]
    assert ids[1:2] == [("derived", "because-2")]
    assert [cause for _, cause in ids] == ["because-1", "because-2", None]
    envelope, _ = decode_events(world.messages[0], "a")
    assert (envelope.kind, envelope.cause) == (Events.kind, None)
    assert len({envelope.id, *(reported for reported, _ in ids)}) == 4
    assert [(event.client, event.combiner, event.round, event.data) for event in events] == [
        ("c1", "k1", 1, {}),
        ("c2", "k1", 1, {"x": 2}),
        ("c3", "k1", 1, {}),
    ]


def test_events_of_later_turns_are_messages_of_their_own(world: World) -> None:
    world.emit(accepted("c1"))
    assert clients(world.reported) == [["c1"]]
    world.emit(accepted("c2"))
    assert clients(world.reported) == [["c1"], ["c2"]]


def test_another_name_or_session_ends_a_message_and_the_order_is_kept(world: World) -> None:
    world.emit(
        accepted("c1"),
        accepted("c2"),
        PublishEvent("round.summed", "s1", 1, "c3"),
        accepted("c4"),
        accepted("c5", "s2"),
        accepted("c6", "s2"),
        accepted("c7", None),
        accepted("c8"),
    )
    assert clients(world.reported) == [["c1", "c2"], ["c3"], ["c4"], ["c5", "c6"], ["c7"], ["c8"]]


def test_a_message_holds_no_more_events_than_the_limit(world: World) -> None:
    names = [f"c{number}" for number in range(2 * MOST_EVENTS + 1)]
    world.emit(*(accepted(name) for name in names))
    assert [len(events) for events in world.reported] == [MOST_EVENTS, MOST_EVENTS, 1]
    assert [name for message in clients(world.reported) for name in message] == names


def test_a_message_of_events_that_clients_publish_holds_as_many_as_are_received_of_a_client(world: World) -> None:
    world.emit(*(PublishEvent("message.refused", client="k1") for _ in range(MOST_OF_CLIENT + 1)))
    assert [len(events) for events in world.reported] == [MOST_OF_CLIENT, 1]
    for message in world.messages:
        decode_events(message, "a", "k1", is_client=True)


def test_events_that_are_too_large_together_are_published_one_by_one_and_whole(world: World) -> None:
    world.emit(*(accepted(f"c{number}", text="x" * (MAX_BODY // 3)) for number in range(4)))
    assert clients(world.reported) == [["c0"], ["c1"], ["c2"], ["c3"]]
    assert all(len(event.data["text"]) == MAX_BODY // 3 for [event] in world.reported)
    assert len({message.message_id for message in world.messages}) == 4


def test_an_event_that_is_too_large_loses_its_data_and_its_neighbours_do_not(world: World) -> None:
    world.emit(accepted("c1", x=1), accepted("c2", reason="r" * 2000, text="x" * MAX_BODY), accepted("c3", x=3))
    [first], [large], [last] = world.reported
    assert (first.data, last.data) == ({"x": 1}, {"x": 3})
    assert large.data.keys() == {"reason", "left_out"}
    assert large.data["reason"] == "r" * 1000
    assert "over the limit" in large.data["left_out"]


def test_an_event_that_can_not_be_encoded_loses_its_data_and_raises_nothing(world: World) -> None:
    """A file's name may hold bytes that are no text; a callback of the scheduler must not raise."""
    world.emit(accepted("c1", x=1), accepted("c2", reason="can't open \udcff"), accepted("c3", x=2**80))
    [first], [odd], [huge] = world.reported
    assert first.data == {"x": 1}
    assert odd.data["reason"] == "can't open ?" and "can't be written" in odd.data["left_out"]
    assert huge.data["reason"] == "" and "can't be written" in huge.data["left_out"]


# -- what tells them first ----------------------------------------------------------------------------------------------


class Script:
    """Answers its start with given effects, and each message with others."""

    def __init__(self, at_start: Sequence[Effect] = (), on_message: Callable[[int], Sequence[Effect]] = lambda _: ()):
        self._at_start = at_start
        self._on_message = on_message

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        if isinstance(event, Started):
            return self._at_start
        return self._on_message(event.tag) if isinstance(event, Received) else ()


def acting(world: World, script: Script) -> Actor:
    actor = Actor(
        "k1", script, world.connection, world.scheduler, ALLIANCE, inbox=ALLIANCE.combiner("k1"), new_id=world.new_id
    )
    actor.start()
    return actor


def send_hello(world: World) -> None:
    sender = MessageWriter("c1", world.broker.connect("c1"), world.scheduler, ALLIANCE, world.new_id, {})
    outgoing = sender.encode(Publish("update", update_key("k1", "c1"), ClientHello()), None)
    world.broker.connect("c1").publish(outgoing)


class Recording:
    """The calls of an actor to its connection, and the kinds of its messages, in order."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.kinds: list[str] = []
        for name in ("publish", "ack", "reject", "close"):
            monkeypatch.setattr(world.connection, name, self._noting(name, getattr(world.connection, name)))

    def _noting(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: Any) -> None:
            self.calls.append(name)
            if name == "publish":
                self.kinds.append(msgpack.unpackb(arguments[0].body)["kind"])
            call(*arguments)

        return noted


def test_a_publish_does_not_overtake_the_events_before_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(world, monkeypatch)
    hello = Publish("update", update_key("reader", "k1"), ClientHello())
    acting(world, Script([accepted("c1"), accepted("c2"), hello, accepted("c3")]))
    world.scheduler.settle()
    assert recording.kinds == ["events", "client_hello", "event"]


@pytest.mark.parametrize(
    ("settle", "calls"),
    [
        (lambda tag: Ack((tag,)), ["publish", "ack", "publish"]),
        (lambda tag: Reject(tag, "no"), ["publish", "publish", "reject", "publish"]),
    ],
    ids=["ack", "reject"],
)
def test_a_message_is_settled_after_the_events_that_report_it(
    world: World, monkeypatch: pytest.MonkeyPatch, settle: Callable[[int], Effect], calls: list[str]
) -> None:
    acting(world, Script((), lambda tag: [accepted("c1"), accepted("c2"), settle(tag), accepted("c3")]))
    world.scheduler.settle()
    recording = Recording(world, monkeypatch)
    send_hello(world)
    world.scheduler.settle()
    assert recording.calls == calls
    assert clients(world.reported)[0] == ["c1", "c2"]


def test_an_actor_that_leaves_publishes_its_waiting_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(world, monkeypatch)
    actor = acting(world, Script([accepted("c1"), accepted("c2")]))
    actor.leave(1.0)
    assert recording.calls == ["publish", "close"]
    assert clients(world.reported) == [["c1", "c2"]]


def test_an_actor_that_is_killed_publishes_nothing_more(world: World) -> None:
    actor = acting(world, Script([accepted("c1")]))
    actor.kill()
    assert world.reported == []
