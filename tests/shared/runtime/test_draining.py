"""An actor that drains receives nothing new, finishes the effects under way, and returns the rest to its inbox."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import Transient
from fedmq.runtime.actor import Actor
from fedmq.runtime.effect_runner import FIRST_RETRY
from fedmq.runtime.effects import CoreEvent, Drained, Effect, Now, Perform, Publish, Received, Started, Stopping
from fedmq.scheduler import VirtualScheduler
from fedmq.value import value
from fedmq_schemas import messages, topology
from fedmq_schemas.topology import Topology

ALLIANCE = Topology("a")


@value
class Store(Perform):
    """Meets an outage once."""


class Keeper:
    """Holds the messages that it receives, and publishes that it leaves."""

    def __init__(self, *, leaves: bool = True) -> None:
        self.received = 0
        self._leaves = leaves

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        if isinstance(event, Received):
            self.received += 1
        if isinstance(event, Started):
            return [Store()]
        if isinstance(event, Stopping):
            goodbye = Publish("update", topology.update_key("keeper", "keeper"), messages.ClientPresence(leaving=True))
            return [goodbye, *([Drained()] if self._leaves else [])]
        return ()


class World:
    def __init__(self, core: Keeper, outages: int = 0) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = MemoryBroker(self.scheduler)
        self.core = core
        self.actor = self.start(core, outages)
        self.drained: list[float] = []

    def start(self, core: Keeper, outages: int = 0) -> Actor:
        numbers = iter(range(100))
        errors = [Transient("away")] * outages

        def store(effect: Store) -> None:
            if errors:
                raise errors.pop()

        actor = Actor(
            "keeper",
            core,
            self.broker.connect("keeper"),
            self.scheduler,
            ALLIANCE,
            inbox=ALLIANCE.combiner("keeper"),
            new_id=lambda: f"id{next(numbers)}",
            performers={Store: store},
        )
        actor.start()
        self.scheduler.settle()
        return actor

    def drain(self) -> None:
        self.actor.drain(lambda: self.drained.append(self.scheduler.now()))


@pytest.fixture
def world() -> World:
    return World(Keeper())


def test_a_drain_is_over_once_the_goodbye_is_confirmed(world: World) -> None:
    world.drain()

    assert world.drained == []
    world.scheduler.settle()
    assert len(world.drained) == 1


def test_messages_that_arrive_during_a_drain_are_left_for_the_next_process(world: World) -> None:
    world.drain()
    world.scheduler.settle()
    world.actor.leave(1.0)
    world.scheduler.settle()
    assert world.core.received == 0

    successor = Keeper()
    world.start(successor)
    assert successor.received == 1


def test_a_core_that_has_not_left_is_waited_for() -> None:
    world = World(Keeper(leaves=False))

    world.drain()
    world.scheduler.settle()

    assert world.drained == []


def test_an_effect_that_waits_for_its_retry_is_waited_for() -> None:
    world = World(Keeper(), outages=1)

    world.drain()
    world.scheduler.settle()
    assert world.drained == []
    world.scheduler.run()

    assert world.drained == [FIRST_RETRY]
