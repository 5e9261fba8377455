"""Groups of effects: what of a lane is joined, and what a refusal or an outage does to the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmq.effects import Ack, CoreEvent, Effect, Failed, Perform
from fedmq.errors import FedMQError, Transient
from fedmq.performing import MOST_JOINED, Group, Performing
from fedmq.scheduler import VirtualScheduler


@dataclass(frozen=True, slots=True)
class Write(Perform):
    names: tuple[str, ...]

    lane = "records"

    def joined(self, later: Perform) -> Perform | None:
        return Write(self.names + later.names) if isinstance(later, Write) else None


@dataclass(frozen=True, slots=True)
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
        self.performing = Performing(
            "bench",
            self.scheduler,
            {Write: lambda effect: self._call(effect.names), Decide: lambda effect: self._call([effect.name])},
            offload=True,
            built_in=self._built_in,
            tell=self._tell,
            bug=lambda doing, error: None,
            settled=lambda: None,
        )

    def _call(self, names: Sequence[str]) -> None:
        self.calls.append(names)
        error = self._refuse(names)
        if error is not None:
            raise error

    def _built_in(self, effect: Effect, _: Group) -> None:
        assert isinstance(effect, Ack)
        self.acked += effect.tags

    def _tell(self, event: CoreEvent, _: str | None) -> None:
        assert isinstance(event, Failed)
        self.failed.append(event.effect)

    def run(self, *groups: Sequence[Any]) -> None:
        for group in groups:
            self.performing.run(group, None)
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
    assert bench.performing.idle


def test_nothing_is_started_after_the_end() -> None:
    bench = Bench()
    for group in writes(3):
        bench.performing.run(group, None)
    bench.performing.close()
    bench.scheduler.run()
    assert bench.calls == [("0",)]
    assert bench.acked == []
