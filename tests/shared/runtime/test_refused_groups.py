"""A group of effects that is refused settles the messages that it was to acknowledge, and costs no other group anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import Fenced, ProtocolError, Refused, Transient
from fedmq.runtime.actor import Actor
from fedmq.runtime.effects import (
    Ack,
    Apart,
    Broken,
    CoreEvent,
    Effect,
    Failed,
    Now,
    Perform,
    Publish,
    PublishEvent,
    Received,
    Reject,
    Started,
)
from fedmq.runtime.event_stream import observe
from fedmq.scheduler import VirtualScheduler
from fedmq.value import value
from fedmq_schemas.messages import About, Attach, Event
from fedmq_schemas.topology import Topology, assignment_request_key
from shared.runtime.bench import Bench

ALLIANCE = Topology("a")


@value
class Write(Perform):
    name: str

    ordered = True


@value
class Optional(Write):
    is_optional = True


def write(effect: Write) -> None:
    if effect.name == "poison":
        raise ProtocolError("key names must not contain NUL")
    if effect.name == "late":
        raise Fenced("term 1 is over")


def bench() -> Bench:
    return Bench({Write: write, Optional: write}, offload=False)


def test_messages_of_a_refused_group_are_dead_letters_that_name_effect_and_reason() -> None:
    runner = bench()
    runner.run([Write("poison"), Ack((1,)), Write("dropped"), Ack((2, 3))], [Write("good"), Ack((4,))])
    reason = "Write was refused: key names must not contain NUL"
    assert runner.dead_letters == {1: reason, 2: reason, 3: reason}
    assert runner.acked == [4]
    assert runner.calls == [Write("poison"), Write("good")]


def test_messages_that_were_acknowledged_before_the_refusal_are_no_dead_letters() -> None:
    runner = bench()
    runner.run([Ack((1,)), Write("poison"), Ack((2,))])
    assert (runner.acked, list(runner.dead_letters)) == ([1], [2])


def test_messages_of_a_fenced_group_stay_for_the_process_that_decides_now() -> None:
    runner = bench()
    runner.run([Write("late"), Ack((1,)), Apart(), Write("dropped"), Ack((2,))], [Write("other")])
    assert (runner.acked, runner.dead_letters) == ([], {})
    assert runner.failed == [Write("late")]
    assert runner.calls == [Write("late"), Write("other")]


def test_the_group_of_a_refused_optional_effect_goes_on() -> None:
    runner = bench()
    runner.run([Optional("poison"), Write("w1"), Ack((1,))])
    assert runner.failed == [Optional("poison")]
    assert (runner.acked, runner.dead_letters) == ([1], {})


def test_the_group_of_an_optional_effect_ends_if_the_process_is_fenced() -> None:
    """A reducer that had lost its lease published a grant."""
    runner = bench()
    runner.run([Optional("late"), Write("w1"), Ack((1,))])
    assert (runner.calls, runner.acked, runner.dead_letters) == ([Optional("late")], [], {})


def test_what_stands_apart_waits_for_what_is_before_it() -> None:
    """So a message is not acknowledged before what precedes it is durable."""
    away = [Transient("away")]

    def outage(effect: Write) -> None:
        if away:
            raise away.pop()

    runner = Bench({Write: outage}, offload=False)
    runner.start([Write("w1"), Apart(), Ack((1,))])
    runner.scheduler.settle()
    assert runner.acked == []
    runner.scheduler.run()
    assert runner.acked == [1]


def test_a_part_of_which_two_publishes_are_refused_is_dropped_once() -> None:
    runner = bench()
    publish = Publish("task", "a", About(software="", speaks=(1, 1)))
    runner.run([publish, publish, Ack((1,)), Apart(), Ack((2,))])
    for confirmed in runner.confirmations:
        confirmed(Refused("no queue"))
    assert runner.failed == [publish]
    assert (runner.acked, list(runner.dead_letters)) == ([2], [1])


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_effects_that_stand_apart_are_not_dropped_with_what_is_refused(refused: int) -> None:
    runner = bench()
    names = ["poison" if number == refused else f"w{number}" for number in (1, 2, 3)]
    effects: list[Effect] = [Apart()]
    for tag, name in enumerate(names, 1):
        effects += [Write(name), Ack((tag,)), Apart()]
    runner.run(effects)
    assert runner.calls == [Write(name) for name in names], "in the order in which the core returned them"
    assert list(runner.dead_letters) == [refused]
    assert runner.acked == [tag for tag in (1, 2, 3) if tag != refused]


# -- in an actor --------------------------------------------------------------------------------------------------------


class Settled:
    """An actor with this core, which receives one `attach` message."""

    def __init__(self, handle: Callable[[CoreEvent], Sequence[Effect]]) -> None:
        self.handled: list[CoreEvent] = []
        self.published: list[Event] = []
        self._handle = handle
        scheduler = VirtualScheduler()
        broker = MemoryBroker(scheduler)
        observe(broker.connect("page"), ALLIANCE.observer("page"), "a", lambda _, event: self.published.append(event))
        performers: dict[type[Effect], Callable[[Any], Any]] = {Write: write}
        self.actor = Actor(
            "reducer",
            self,
            broker.connect("reducer"),
            scheduler,
            ALLIANCE,
            inbox=ALLIANCE.reducer(),
            new_id=iter("123456").__next__,
            performers=performers,
        )
        self.actor.start()
        envelope = {"kind": "attach", "id": "m1", "alliance": "a", "sender": "c1", "sent_at": 0.0}
        data = codec.encode(envelope, codec.fields_of(Attach()))
        broker.connect("c1").publish(Outgoing("a.assignment", assignment_request_key("c1"), data, "m1"))
        scheduler.run(limit=1.0)
        self.dead = broker.ready(ALLIANCE.dead().name)

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        self.handled.append(event)
        return self._handle(event)

    @property
    def refusals(self) -> list[str]:
        return [event.data["reason"] for event in self.published if event.name == "message.refused"]


def test_a_message_whose_record_is_refused_is_one_dead_letter_and_the_reason_is_published() -> None:
    def handle(event: CoreEvent) -> Sequence[Effect]:
        return [Write("poison"), Ack((event.tag,))] if isinstance(event, Received) else []

    found = Settled(handle)
    assert (found.actor.unsettled, found.dead) == (0, 1)
    assert found.refusals == ["Write was refused: key names must not contain NUL"]


def test_a_message_that_the_core_rejects_when_it_receives_the_refusal_is_rejected_once() -> None:
    def handle(event: CoreEvent) -> Sequence[Effect]:
        match event:
            case Received(tag=tag):
                return [Write("poison"), Ack((tag,))]
            case Failed():
                return [PublishEvent("actor.error", data={"reason": "x"}), Reject(1, "no such table")]
        return []

    found = Settled(handle)
    assert (found.actor.unsettled, found.dead) == (0, 1)
    assert found.refusals == ["no such table"]


def test_a_core_receives_once_that_an_event_met_a_bug_of_its_own() -> None:
    def handle(event: CoreEvent) -> Sequence[Effect]:
        if isinstance(event, Started):
            return []
        raise ZeroDivisionError("oh")

    found = Settled(handle)
    started, received, broken = found.handled
    assert isinstance(started, Started) and isinstance(broken, Broken)
    assert broken.event is received
    assert broken.error.reason == "internal error: ZeroDivisionError('oh')"
    assert (found.actor.unsettled, found.dead) == (0, 1)
    reported = [event.data["reason"] for event in found.published if event.name == "actor.error"]
    assert reported == ["handling Received: ZeroDivisionError('oh')", "handling Broken: ZeroDivisionError('oh')"]
