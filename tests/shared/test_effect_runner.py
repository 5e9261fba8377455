"""Groups of effects: what of a lane is joined, and what a refusal or an outage does to the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fedmq.brokers.memory import MemoryBroker
from fedmq.effect_runner import FIRST_RETRY, MOST_JOINED, EffectGroup, EffectRunner
from fedmq.effects import Ack, CoreEvent, Done, Effect, Failed, Now, Perform, PublishEvent, Stopping
from fedmq.errors import FedMQError, InvalidUpdate, Transient
from fedmq.frozen import frozen
from fedmq.listening import observe
from fedmq.runtime import Actor
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.messages import Event
from fedmq_schemas.topology import Topology


@frozen
class Write(Perform):
    names: tuple[str, ...]

    lane = "records"

    def joined(self, later: Perform) -> Perform | None:
        return Write(self.names + later.names) if isinstance(later, Write) else None


@frozen
class Decide(Perform):
    name: str

    lane = "records"


class Bench:
    """Performers that run off the thread, and what they and the core were told."""

    def __init__(self, refuse: Callable[[Sequence[str]], Exception | None] = lambda names: None) -> None:
        self.scheduler = VirtualScheduler()
        self.calls: list[Sequence[str]] = []
        self.acked: list[int] = []
        self.failed: list[Effect] = []
        self._refuse = refuse
        self.runner = EffectRunner(
            "bench",
            self.scheduler,
            {Write: lambda effect: self._call(effect.names), Decide: lambda effect: self._call([effect.name])},
            offload=True,
            built_in=self._built_in,
            report=self._report,
            report_bug=lambda doing, error: None,
            on_end=lambda: None,
        )

    def _call(self, names: Sequence[str]) -> None:
        self.calls.append(names)
        error = self._refuse(names)
        if error is not None:
            raise error

    def _built_in(self, effect: Effect, _: EffectGroup) -> None:
        assert isinstance(effect, Ack)
        self.acked += effect.tags

    def _report(self, event: CoreEvent, _: str | None) -> None:
        assert isinstance(event, Failed)
        self.failed.append(event.effect)

    def run(self, *groups: Sequence[Any]) -> None:
        for group in groups:
            self.runner.run(group, None)
        self.scheduler.run()


def writes(count: int) -> list[list[Effect]]:
    return [[Write((str(number),)), Ack((number,))] for number in range(count)]


def test_what_comes_while_a_write_is_under_way_is_written_together() -> None:
    bench = Bench()
    bench.run(*writes(5))
    assert bench.calls == [("0",), ("1", "2", "3", "4")]
    assert bench.acked == [0, 1, 2, 3, 4]


def test_a_decision_between_them_keeps_its_place() -> None:
    bench = Bench()
    first, second, third, fourth = writes(4)
    bench.run(first, second, [Decide("d"), Ack((9,))], third, fourth)
    assert bench.calls == [("0",), ("1",), ["d"], ("2", "3")]
    assert bench.acked == [0, 1, 9, 2, 3]


def test_no_more_are_joined_than_the_limit() -> None:
    bench = Bench()
    bench.run(*writes(MOST_JOINED + 3))
    assert [len(call) for call in bench.calls] == [1, MOST_JOINED, 2]


def test_of_joined_writes_only_the_refused_one_fails() -> None:
    bench = Bench(lambda names: FedMQError("not a record") if "2" in names else None)
    bench.run(*writes(5))
    assert bench.calls == [("0",), ("1", "2", "3", "4"), ("1",), ("2",), ("3",), ("4",)]
    assert bench.acked == [0, 1, 3, 4]
    assert bench.failed == [Write(("2",))]


def test_joined_writes_are_tried_again_together_after_an_outage() -> None:
    outages = iter([True, True, False])
    bench = Bench(lambda names: Transient("away") if len(names) > 1 and next(outages) else None)
    bench.run(*writes(3))
    assert bench.calls == [("0",), ("1", "2"), ("1", "2"), ("1", "2")]
    assert bench.acked == [0, 1, 2]
    assert bench.runner.is_idle


def test_nothing_is_started_after_the_end() -> None:
    bench = Bench()
    for group in writes(3):
        bench.runner.run(group, None)
    bench.runner.close()
    bench.scheduler.run()
    assert bench.calls == [("0",)]
    assert bench.acked == []


# -- on the thread ------------------------------------------------------------------------------------------------------


@frozen
class Add(Perform):
    number: int

    reports = True
    independent = True
    batched = True


@frozen
class Other(Perform):
    """Something of another kind, one at a time."""

    name: str


Answer = Callable[[Add], Any]


class Turn:
    """Performers that run on the thread, in batches, and what the core was told. What `answer` gives, if it gives an
    exception, stands in the place of its effect."""

    def __init__(self, answer: Answer = lambda effect: effect.number * 10) -> None:
        self.scheduler = VirtualScheduler()
        self.calls: list[list[int] | str] = []
        self.told: list[tuple[int, Any]] = []
        self.acked: list[int] = []
        self.bugs: list[Exception] = []
        self._answer = answer
        self.runner = EffectRunner(
            "turn",
            self.scheduler,
            {Add: self._add, Other: lambda effect: self.calls.append(effect.name)},
            offload=False,
            built_in=self._built_in,
            report=self._report,
            report_bug=lambda doing, error: self.bugs.append(error),
            on_end=lambda: None,
        )

    def _add(self, these: Sequence[Add]) -> list[Any]:
        self.calls.append([effect.number for effect in these])
        return [self._answer(effect) for effect in these]

    def _built_in(self, effect: Effect, _: EffectGroup) -> None:
        assert isinstance(effect, Ack)
        self.acked += effect.tags

    def _report(self, event: CoreEvent, _: str | None) -> None:
        assert isinstance(event, Done | Failed) and isinstance(event.effect, Add)
        self.told.append((event.effect.number, event.error if isinstance(event, Failed) else event.result))

    def start(self, *effects: Effect) -> None:
        for effect in effects:
            self.runner.run([effect], None)


def test_what_is_performed_on_the_thread_waits_for_the_next_turn() -> None:
    turn = Turn()
    turn.runner.run([Other("first"), Ack((1,))], None)
    assert (turn.calls, turn.acked) == ([], [])
    assert turn.runner.has_queued and not turn.runner.is_idle
    turn.scheduler.settle()
    assert (turn.calls, turn.acked) == (["first"], [1])
    assert turn.runner.is_idle and not turn.runner.has_queued


def test_effects_that_have_gathered_are_performed_in_one_call_each_with_its_own_result() -> None:
    turn = Turn()
    turn.start(Add(1), Add(2), Add(3))
    turn.scheduler.settle()
    assert turn.calls == [[1, 2, 3]]
    assert turn.told == [(1, 10), (2, 20), (3, 30)]
    turn.start(Add(4))
    turn.scheduler.settle()
    assert turn.calls == [[1, 2, 3], [4]]


def test_another_kind_between_them_keeps_its_place() -> None:
    turn = Turn()
    turn.start(Add(1), Add(2), Other("x"), Other("y"), Add(3))
    turn.scheduler.settle()
    assert turn.calls == [[1, 2], "x", "y", [3]]


def test_effects_of_one_batch_are_off_the_thread_each_alone_where_performers_talk_to_servers() -> None:
    scheduler, calls = VirtualScheduler(), list[list[int]]()
    told: list[CoreEvent] = []
    refusal = InvalidUpdate("no")

    def add(these: Sequence[Add]) -> list[Any]:
        calls.append([effect.number for effect in these])
        return [refusal if effect.number == 2 else effect.number for effect in these]

    runner = EffectRunner(
        "off", scheduler, {Add: add}, offload=True, built_in=lambda effect, group: None,
        report=lambda event, cause: told.append(event), report_bug=lambda doing, error: None, on_end=lambda: None,
    )  # fmt: skip
    runner.run([Add(1), Add(2)], None)
    scheduler.run()
    assert calls == [[1], [2]]
    assert told == [Done(Add(1), 1), Failed(Add(2), refusal)]


def test_a_refused_one_fails_and_no_other_of_its_batch() -> None:
    refusal = InvalidUpdate("holds NaN")
    turn = Turn(lambda effect: refusal if effect.number == 2 else "in")
    turn.start(Add(1), Add(2), Add(3))
    turn.scheduler.run()
    assert turn.calls == [[1, 2, 3]]
    assert turn.told == [(1, "in"), (2, refusal), (3, "in")]
    assert turn.bugs == []


def test_one_that_meets_an_outage_is_tried_again_alone_and_later_each_time() -> None:
    outages = iter([Transient("away"), Transient("away"), "in"])
    at: list[float] = []

    def answer(effect: Add) -> Any:
        if effect.number != 2:
            return "in"
        at.append(turn.scheduler.now())
        return next(outages)

    turn = Turn(answer)
    turn.start(Add(1), Add(2), Add(3))
    turn.scheduler.run()
    assert turn.calls == [[1, 2, 3], [2], [2]]
    assert turn.told == [(1, "in"), (3, "in"), (2, "in")]
    assert at == pytest.approx([0.0, FIRST_RETRY, 3 * FIRST_RETRY])
    assert turn.runner.is_idle


def test_a_bug_in_the_performer_fails_all_of_the_batch() -> None:
    bug = ZeroDivisionError("oh")

    def answer(effect: Add) -> Any:
        raise bug

    turn = Turn(answer)
    turn.start(Add(1), Add(2))
    turn.scheduler.run()
    assert [(number, type(error)) for number, error in turn.told] == [(1, FedMQError), (2, FedMQError)]
    assert all("internal error in Add" in error.reason for _, error in turn.told)
    assert turn.bugs == [bug, bug]
    assert turn.runner.is_idle


def test_nothing_that_is_queued_is_performed_after_the_end() -> None:
    turn = Turn()
    turn.start(Add(1), Other("x"))
    turn.runner.close()
    turn.scheduler.run()
    assert (turn.calls, turn.told) == ([], [])


class Leaver:
    """Performs one thing after another when it is told to stop, and then says so."""

    def handle(self, event: CoreEvent, moment: Now) -> Sequence[Effect]:
        match event:
            case Stopping():
                return [Add(1)]
            case Done(Add(number)) if number < 3:
                return [Other(f"after {number}"), Add(number + 1)]
            case Done():
                return [PublishEvent("actor.error", data={"reason": "goodbye"})]
        return ()


def test_an_actor_works_off_what_is_queued_and_tells_of_it_before_it_leaves() -> None:
    scheduler, done = VirtualScheduler(), list[object]()
    broker, alliance = MemoryBroker(scheduler), Topology("a")
    heard: list[Event] = []
    observe(broker.connect("page"), alliance.observer("page"), "a", lambda _, event: heard.append(event))

    def add(these: Sequence[Add]) -> list[int]:
        done.extend(effect.number for effect in these)
        return [0] * len(these)

    actor = Actor(
        "k1", Leaver(), broker.connect("k1"), scheduler, alliance, inbox=alliance.combiner("k1"), new_id=lambda: "id",
        performers={Add: add, Other: lambda effect: done.append(effect.name)},
    )  # fmt: skip
    actor.start()
    scheduler.settle()
    actor.stop()
    assert done == [1, "after 1", 2, "after 2", 3]
    scheduler.settle()
    assert [event.data["reason"] for event in heard] == ["goodbye"]
    assert len(done) == 5
