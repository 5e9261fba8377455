"""Ordered effects: performed one at a time in the order in which the core returned them, some joined into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedmq.errors import FedMQError, Transient
from fedmq.runtime.effect_groups import MAX_JOINED
from fedmq.runtime.effects import Ack, Effect, Perform
from fedmq.value import value
from shared.runtime.bench import Bench


@value
class Write(Perform):
    names: tuple[str, ...]

    ordered = True

    def joined(self, later: Perform) -> Perform | None:
        return Write(self.names + later.names) if isinstance(later, Write) else None


@value
class Decide(Perform):
    name: str

    ordered = True
    reports = True


@value
class Look(Perform):
    """Anything that is not ordered."""

    name: str


@value
class Aside(Perform):
    name: str

    ordered = True
    independent = True


Names = Sequence[str]


def bench_with(refuse: Callable[[Names], Exception | None] = lambda names: None) -> Bench:
    """Returns a bench off the actor's thread, whose performers raise what `refuse` returns for an effect's names."""

    def perform(names: Names) -> None:
        error = refuse(names)
        if error is not None:
            raise error

    performers: dict[type[Perform], Callable[[Any], None]] = {
        Write: lambda effect: perform(effect.names),
        **dict.fromkeys((Decide, Look, Aside), lambda effect: perform([effect.name])),
    }
    return Bench(performers, offload=True)


def writes(count: int) -> list[list[Effect]]:
    return [[Write((str(number),)), Ack((number,))] for number in range(count)]


def once(name: str, error: Exception) -> Callable[[Names], Exception | None]:
    """Refuses the first effect of this name."""
    errors = [error]
    return lambda names: errors.pop() if errors and name in names else None


# -- the order ----------------------------------------------------------------------------------------------------------


def test_an_ordered_effect_waits_for_earlier_ones_of_a_group_that_is_held_up() -> None:
    bench = bench_with(once("slow", Transient("away")))
    bench.run([Look("slow"), Decide("first")], [Look("fast"), Decide("second"), Look("after")])
    assert bench.calls == [
        Look("slow"),
        Look("fast"),
        Look("slow"),
        Decide("first"),
        Decide("second"),
        Look("after"),
    ]


def test_a_retry_keeps_its_place_in_the_order() -> None:
    bench = bench_with(once("first", Transient("away")))
    bench.run([Decide("first")], [Decide("second")], [Look("other")])
    assert bench.calls == [Decide("first"), Look("other"), Decide("first"), Decide("second")]


def test_the_ordered_effects_of_a_dropped_group_hold_up_nobody() -> None:
    bench = bench_with(once("refused", FedMQError("no")))
    bench.run([Look("refused"), Decide("never"), Ack((1,))], [Decide("second"), Ack((2,))])
    assert bench.calls == [Look("refused"), Decide("second")]
    assert bench.acked == [2]
    assert bench.failed == [Look("refused")]


def test_a_refused_ordered_effect_drops_its_own_group_alone() -> None:
    bench = bench_with(once("first", FedMQError("no")))
    bench.run([Decide("first"), Decide("never"), Ack((1,))], [Decide("second"), Ack((2,))])
    assert bench.calls == [Decide("first"), Decide("second")]
    assert (bench.acked, bench.failed, bench.done) == ([2], [Decide("first")], [Decide("second")])


def test_a_group_does_not_wait_for_an_independent_ordered_effect_but_the_order_does() -> None:
    bench = bench_with(once("aside", FedMQError("no")))
    bench.run([Aside("aside"), Ack((1,)), Decide("second"), Ack((2,))])
    assert bench.calls == [Aside("aside"), Decide("second")]
    assert (bench.acked, bench.failed) == ([1, 2], [Aside("aside")])


def test_the_core_receives_the_part_of_a_joined_effect_that_it_returned() -> None:
    bench = bench_with(lambda names: FedMQError("not a record") if "2" in names else None)
    groups = writes(4)
    bench.run(*groups)
    assert [id(effect) for effect in bench.failed] == [id(groups[2][0])]


# -- joined -------------------------------------------------------------------------------------------------------------


def test_writes_that_arrive_while_another_is_under_way_are_joined() -> None:
    bench = bench_with()
    bench.run(*writes(5))
    assert bench.calls == [Write(("0",)), Write(("1", "2", "3", "4"))]
    assert bench.acked == [0, 1, 2, 3, 4]


def test_a_decision_between_them_keeps_its_place() -> None:
    bench = bench_with()
    first, second, third, fourth = writes(4)
    bench.run(first, second, [Decide("d"), Ack((9,))], third, fourth)
    assert bench.calls == [Write(("0",)), Write(("1",)), Decide("d"), Write(("2", "3"))]
    assert bench.acked == [0, 1, 9, 2, 3]


def test_no_more_are_joined_than_the_limit() -> None:
    bench = bench_with()
    bench.run(*writes(MAX_JOINED + 3))
    assert [len(call.names) for call in bench.calls if isinstance(call, Write)] == [1, MAX_JOINED, 2]


def test_of_joined_writes_only_the_refused_one_fails() -> None:
    bench = bench_with(lambda names: FedMQError("not a record") if "2" in names else None)
    bench.run(*writes(5))
    assert bench.calls == [Write(("0",)), Write(("1", "2", "3", "4")), *(Write((name,)) for name in "1234")]
    assert bench.acked == [0, 1, 3, 4]
    assert bench.failed == [Write(("2",))]


def test_joined_writes_are_tried_again_together_after_an_outage() -> None:
    outages = iter([True, True, False])
    bench = bench_with(lambda names: Transient("away") if len(names) > 1 and next(outages) else None)
    bench.run(*writes(3))
    assert bench.calls == [Write(("0",)), *[Write(("1", "2"))] * 3]
    assert bench.acked == [0, 1, 2]
    assert bench.runner.is_idle


def test_nothing_is_started_after_the_end() -> None:
    bench = bench_with()
    bench.start(*writes(3))
    bench.runner.close()
    bench.scheduler.run()
    assert bench.calls == [Write(("0",))]
    assert bench.acked == []


# -- what a store refuses without saying so -----------------------------------------------------------------------------


@value
class Stored(Perform):
    name: str

    ordered = True
    store = "records"


@value
class Renewal(Perform):
    number: int

    store = "records"


def with_renewals(fails: Callable[[float], bool], seconds: float) -> Bench:
    """One record fails with `Transient`, another one is behind it. A renewal of the lease, which is not ordered, is written
    each 3 s, unless the store is away (`fails`)."""

    def store(effect: Stored | Renewal) -> None:
        if fails(bench.scheduler.now()) or effect == Stored("poison"):
            raise Transient("refused with code 4711", store="records")

    bench = Bench({Stored: store, Renewal: store}, offload=False)

    def renew(number: int = 0) -> None:
        if bench.scheduler.now() < seconds:
            bench.start([Renewal(number)])
            bench.scheduler.later(3.0, lambda: renew(number + 1))

    bench.start([Stored("poison"), Ack((1,))], [Stored("good"), Ack((2,))])
    renew()
    return bench


def test_a_record_that_a_working_store_never_writes_is_refused_and_the_others_follow() -> None:
    bench = with_renewals(lambda at: False, 300.0)
    bench.scheduler.run(limit=200.0)
    assert bench.failed == [Stored("poison")]
    reason = "refused with code 4711, in 20 attempts between which others succeeded"
    assert bench.dead_letters == {1: f"Stored was refused: {reason}"}
    assert bench.acked == [2]


def test_a_record_waits_for_the_end_of_an_outage_however_long_that_takes() -> None:
    """A fresh success of another record is no proof that this one is refused."""
    bench = with_renewals(lambda at: at < 300.0, 390.0)
    bench.scheduler.run(limit=390.0)
    assert (bench.failed, bench.acked) == ([], [])


def test_a_record_of_which_no_other_is_written_meanwhile_is_tried_for_ever() -> None:
    bench = with_renewals(lambda at: False, 0.0)
    bench.scheduler.run(limit=3_600.0)
    assert (bench.failed, bench.acked) == ([], [])
