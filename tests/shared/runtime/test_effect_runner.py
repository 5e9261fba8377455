"""Effects are performed on the scheduler's next turn or off its thread, retried after an outage, or completed later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import InvalidUpdate, Transient
from fedmq.runtime.actor import Actor
from fedmq.runtime.effect_runner import FIRST_RETRY
from fedmq.runtime.effects import Ack, CoreEvent, Done, Effect, Failed, Now, Perform, PublishEvent, Stopping
from fedmq.runtime.event_stream import observe
from fedmq.runtime.later import Later
from fedmq.scheduler import VirtualScheduler
from fedmq.value import value
from fedmq_schemas.messages import Event
from fedmq_schemas.topology import Topology
from shared.runtime.bench import Bench


@value
class Add(Perform):
    number: int

    reports = True
    independent = True


@value
class Other(Perform):
    """Something that its group waits for, without an answer."""

    name: str


def tenfold(effect: Add) -> Any:
    return effect.number * 10


def bench_with(add: Callable[[Add], Any] = tenfold, *, offload: bool = False) -> Bench:
    return Bench({Add: add, Other: lambda effect: None}, offload=offload)


def test_an_effect_on_the_actors_thread_is_performed_on_the_next_turn() -> None:
    bench = bench_with()
    bench.start([Other("first"), Ack((1,))])
    assert (bench.calls, bench.acked) == ([], [])
    assert bench.runner.has_queued and not bench.runner.is_idle
    bench.scheduler.settle()
    assert (bench.calls, bench.acked) == ([Other("first")], [1])
    assert bench.runner.is_idle and not bench.runner.has_queued


@pytest.mark.parametrize("offload", [False, True])
def test_each_effect_has_its_own_result_or_refusal(offload: bool) -> None:
    refusal = InvalidUpdate("holds NaN")

    def add(effect: Add) -> int:
        if effect.number == 2:
            raise refusal
        return effect.number * 10

    bench = bench_with(add, offload=offload)
    bench.run([Add(1)], [Add(2)], [Other("x")], [Add(3)])
    assert bench.calls == [Add(1), Add(2), Other("x"), Add(3)]
    assert bench.events == [Done(Add(1), 10), Failed(Add(2), refusal), Done(Add(3), 30)]
    assert bench.bugs == []


def test_an_effect_that_meets_an_outage_is_tried_again_alone_and_later_each_time() -> None:
    outages = [Transient("away"), Transient("away")]
    at: list[float] = []

    def add(effect: Add) -> int:
        if effect.number == 2:
            at.append(bench.scheduler.now())
            if outages:
                raise outages.pop()
        return effect.number

    bench = bench_with(add)
    bench.start([Add(1)], [Add(2)], [Add(3)])
    bench.scheduler.settle()
    assert not bench.runner.is_idle, "also while it waits"
    bench.scheduler.run()
    assert bench.calls == [Add(1), Add(2), Add(3), Add(2), Add(2)]
    assert bench.events == [Done(Add(1), 1), Done(Add(3), 3), Done(Add(2), 2)]
    assert at == pytest.approx([0.0, FIRST_RETRY, 3 * FIRST_RETRY])
    assert bench.runner.is_idle


def test_a_bug_in_a_performer_is_reported_and_fails_the_effect() -> None:
    bug = ZeroDivisionError("oh")

    def add(effect: Add) -> Any:
        raise bug

    bench = bench_with(add)
    bench.run([Add(1)])
    [failed] = bench.events
    assert isinstance(failed, Failed) and "internal error in Add" in failed.error.reason
    assert bench.bugs == [bug]
    assert bench.runner.is_idle


def test_nothing_that_is_queued_is_performed_after_the_end() -> None:
    bench = bench_with()
    bench.start([Add(1)], [Other("x")])
    bench.runner.close()
    bench.scheduler.run()
    assert (bench.calls, bench.events) == ([], [])


@pytest.mark.parametrize("offload", [False, True])
def test_the_core_receives_the_effect_that_it_returned_and_no_equal_one(offload: bool) -> None:
    """Routines recognise the answer to their question by its identity."""
    outages = [Transient("away")]

    def add(effect: Add) -> int:
        if outages:
            raise outages.pop()
        if effect.number == 2:
            raise InvalidUpdate("no")
        return 0

    bench = bench_with(add, offload=offload)
    effects = [Add(1), Add(1), Add(2), Add(2)]
    bench.run(*([effect] for effect in effects))
    retried, *others = effects
    assert [id(event.effect) for event in bench.events] == [id(effect) for effect in (*others, retried)]


# -- later --------------------------------------------------------------------------------------------------------------


class Postponing:
    """Performs Add, but not yet: `laters` has the result of each call."""

    def __init__(self) -> None:
        self.laters: list[Later] = []

    def __call__(self, effect: Add) -> Later:
        self.laters.append(Later())
        return self.laters[-1]


@pytest.mark.parametrize("offload", [False, True])
def test_an_effect_that_is_completed_later_is_under_way_until_then(offload: bool) -> None:
    add = Postponing()
    bench = bench_with(add, offload=offload)
    first, second = Add(1), Add(2)
    bench.start([first], [second])
    bench.scheduler.settle()
    assert bench.events == [] and not bench.runner.is_idle
    add.laters[1].complete("two")
    add.laters[0].complete("one")
    assert [(event.effect, event.result) for event in bench.events if isinstance(event, Done)] == [
        (second, "two"),
        (first, "one"),
    ]
    assert bench.events[0].effect is second
    assert bench.runner.is_idle


def test_an_effect_may_be_completed_before_its_performer_returns() -> None:
    def add(effect: Add) -> Later:
        later = Later()
        later.complete(effect.number)
        return later

    bench = bench_with(add)
    bench.start([Add(1)])
    bench.scheduler.settle()
    assert bench.events == [Done(Add(1), 1)]


def test_an_effect_that_is_refused_later_fails() -> None:
    add, refusal = Postponing(), InvalidUpdate("no")
    bench = bench_with(add)
    bench.start([Add(1)])
    bench.scheduler.settle()
    add.laters[0].complete(error=refusal)
    assert bench.events == [Failed(Add(1), refusal)]


def test_an_effect_that_meets_an_outage_later_is_tried_again() -> None:
    add = Postponing()
    bench = bench_with(add)
    effect = Add(1)
    bench.start([effect])
    bench.scheduler.settle()
    add.laters[0].complete(error=Transient("away"))
    assert bench.events == []
    bench.scheduler.run()
    add.laters[1].complete("in")
    [done] = bench.events
    assert done == Done(effect, "in") and done.effect is effect


def test_a_result_that_arrives_after_the_end_is_not_reported() -> None:
    add = Postponing()
    bench = bench_with(add)
    bench.start([Add(1)])
    bench.scheduler.settle()
    bench.runner.close()
    add.laters[0].complete("too late")
    assert bench.events == []


# -- leaving ------------------------------------------------------------------------------------------------------------


class Leaver:
    """Performs one effect after another when it is stopped, then publishes an event."""

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        match event:
            case Stopping():
                return [Add(1)]
            case Done(Add(number)) if number < 3:
                return [Other(f"after {number}"), Add(number + 1)]
            case Done():
                return [PublishEvent("actor.error", data={"reason": "goodbye"})]
        return ()


def test_an_actor_performs_what_is_queued_and_publishes_its_events_before_it_leaves() -> None:
    scheduler, done = VirtualScheduler(), list[object]()
    broker, alliance = MemoryBroker(scheduler), Topology("a")
    published: list[Event] = []
    observe(broker.connect("page"), alliance.observer("page"), "a", lambda _, event: published.append(event))

    actor = Actor(
        "k1",
        Leaver(),
        broker.connect("k1"),
        scheduler,
        alliance,
        inbox=alliance.combiner("k1"),
        new_id=lambda: "id",
        performers={Add: lambda effect: done.append(effect.number), Other: lambda effect: done.append(effect.name)},
    )
    actor.start()
    scheduler.settle()
    actor.stop()
    assert done == [1, "after 1", 2, "after 2", 3]
    scheduler.settle()
    assert [event.data["reason"] for event in published] == ["goodbye"]
    assert len(done) == 5
