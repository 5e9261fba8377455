"""Only the in-memory broker has faults on demand, outages, and an exact, repeatable course of events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fedmq.brokers.base import Connection, Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.memory.connection import RESENT_AFTER
from fedmq.errors import FedMQError
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.topology import Topology

TOPOLOGY = Topology("a")


class Plan:
    """Faults by message id; others arrive at once."""

    def __init__(self, **delays: Sequence[float]) -> None:
        self.delays = delays

    def on_publish(self, message: Outgoing) -> Sequence[float]:
        return self.delays.get(message.message_id, (0.0,))


class Bench:
    """A reducer that publishes to a client which acknowledges every message. `course`: the events, with their times."""

    def __init__(self, faults: Plan | None = None) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = MemoryBroker(self.scheduler, faults)
        self.reducer, self.client = self.broker.connect("reducer.r1"), self.broker.connect("client.c1")
        self.reducer.declare(TOPOLOGY.client("c1"))
        self.course: list[tuple[float, str]] = []
        self.client.consume(TOPOLOGY.client("c1").name, 0, self._receive)

    def _receive(self, delivery: Delivery) -> None:
        self.client.ack([delivery.tag])
        self.note(delivery.message_id)

    def note(self, what: str) -> None:
        self.course.append((round(self.scheduler.now(), 3), what))

    def publish(self, message_id: str, confirmed: bool = True, connection: Connection | None = None) -> None:
        def on_confirm(error: FedMQError | None) -> None:
            self.note(f"{message_id} confirmed")

        (connection or self.reducer).publish(
            Outgoing("a.task", "task.c1", b"", message_id), on_confirm if confirmed else None
        )


def test_a_delay_holds_up_later_messages_of_the_same_connection_only() -> None:
    bench = Bench(Plan(slow=[0.5]))
    for message_id in ("slow", "next"):
        bench.publish(message_id, confirmed=False)
    bench.publish("other", confirmed=False, connection=bench.broker.connect("reducer.r2"))
    bench.scheduler.run()
    assert bench.course == [(0.0, "other"), (0.5, "slow"), (0.5, "next")]


def test_a_delayed_message_is_confirmed_when_it_arrives() -> None:
    bench = Bench(Plan(slow=[0.5]))
    bench.publish("slow")
    bench.scheduler.run()
    assert sorted(bench.course) == [(0.5, "slow"), (0.5, "slow confirmed")]


def test_a_duplicate_is_confirmed_once_and_delivered_twice() -> None:
    bench = Bench(Plan(twice=[0.0, 0.3]))
    bench.publish("twice")
    bench.scheduler.run()
    assert sorted(bench.course) == [(0.0, "twice"), (0.0, "twice confirmed"), (0.3, "twice")]


def test_a_lost_message_is_sent_again_only_if_its_confirm_is_awaited() -> None:
    bench = Bench(Plan(lost=[], gone=[]))
    bench.publish("gone", confirmed=False)
    bench.publish("lost")
    bench.scheduler.run()
    assert sorted(bench.course) == [(RESENT_AFTER, "lost"), (RESENT_AFTER, "lost confirmed")]


def test_a_confirm_that_a_break_swallowed_makes_a_duplicate() -> None:
    bench = Bench()
    bench.publish("m")
    bench.broker.break_connection(bench.reducer, downtime=2.0)
    bench.scheduler.run()
    assert sorted(bench.course) == [(0.0, "m"), (2.0, "m"), (2.0, "m confirmed")]


def test_messages_on_a_link_that_breaks_are_sent_again_in_order_or_lost() -> None:
    bench = Bench(Plan(a=[0.5]))
    bench.publish("a")
    bench.publish("b", confirmed=False)
    bench.publish("c")
    bench.broker.break_connection(bench.reducer, downtime=2.0)
    bench.publish("d", confirmed=False)
    bench.publish("e")
    bench.scheduler.run()
    assert [what for _, what in bench.course if "confirmed" not in what] == ["a", "c", "e"]
    assert {when for when, _ in bench.course} == {2.0}


def test_an_outage_takes_everybody_down_and_all_return_after_it() -> None:
    bench = Bench()
    reconnects: list[tuple[str, float]] = []
    bench.reducer.on_reconnect = lambda: reconnects.append(("reducer", bench.scheduler.now()))
    bench.client.on_reconnect = lambda: reconnects.append(("client", bench.scheduler.now()))
    bench.broker.break_connection(bench.client, downtime=1.0)
    bench.broker.outage(5.0)
    bench.publish("during")
    late = bench.broker.connect("reducer.r2")
    bench.publish("late", connection=late)
    bench.scheduler.run()
    assert sorted(reconnects) == [("client", 5.0), ("reducer", 5.0)]
    assert sorted(bench.course) == [
        (5.0, "during"),
        (5.0, "during confirmed"),
        (5.0, "late"),
        (5.0, "late confirmed"),
    ]


def test_a_killed_connection_receives_and_confirms_nothing_more() -> None:
    bench = Bench(Plan(slow=[0.5]))
    bench.publish("slow")
    bench.publish("m")
    bench.reducer.kill()
    bench.scheduler.run()
    assert bench.course == []
    assert bench.reducer not in bench.broker.connections


def test_a_close_sends_messages_that_a_slow_network_still_holds() -> None:
    bench = Bench(Plan(slow=[0.5]))
    bench.publish("slow")
    bench.reducer.close()
    bench.scheduler.run()
    assert sorted(bench.course) == [(0.0, "slow"), (0.0, "slow confirmed")]


def test_a_consumer_may_leave_from_within_a_delivery() -> None:
    bench = Bench()
    seen: list[str] = []
    leaver = bench.broker.connect("combiner.k1")
    queue = TOPOLOGY.combiner("k1")
    leaver.declare(queue)
    for number in range(5):
        bench.reducer.publish(Outgoing("a.task", "plan.k1", b"", str(number)))

    def leave(delivery: Delivery) -> None:
        seen.append(delivery.message_id)
        leaver.kill()

    leaver.consume(queue.name, 0, leave)
    bench.scheduler.settle()
    assert seen == ["0"]
    assert bench.broker.ready(queue.name) == 5


def test_an_error_in_a_handler_surfaces_and_loses_no_other_message() -> None:
    bench = Bench()
    connection = bench.broker.connect("combiner.k1")
    queue = TOPOLOGY.combiner("k1")
    connection.declare(queue)
    seen: list[str] = []

    def fail_once(delivery: Delivery) -> None:
        seen.append(delivery.message_id)
        if len(seen) == 1:
            raise RuntimeError("a bug")

    connection.consume(queue.name, 0, fail_once)
    for number in range(3):
        bench.reducer.publish(Outgoing("a.task", "plan.k1", b"", str(number)))
    with pytest.raises(RuntimeError):
        bench.scheduler.settle()
    bench.scheduler.settle()
    assert seen == ["0", "1", "2"]


def test_expiry_needs_no_timer_so_that_virtual_time_does_not_jump_a_week() -> None:
    bench = Bench()
    bench.client.close()
    bench.scheduler.run()
    assert bench.scheduler.now() == 0.0


def test_a_long_queue_is_handed_out_in_turns_with_other_work() -> None:
    bench = Bench()
    bench.scheduler.settle()
    for number in range(250):
        bench.publish(str(number), confirmed=False)
    bench.scheduler.post(lambda: bench.scheduler.post(lambda: bench.note("other work")))
    bench.scheduler.settle()
    position = [what for _, what in bench.course].index("other work")
    assert 0 < position < 250


def test_a_delay_of_a_broken_link_does_not_delay_the_restored_one() -> None:
    bench = Bench(Plan(slow=[10.0]))
    bench.reducer.on_reconnect = lambda: bench.publish("hello")
    bench.publish("slow")
    bench.broker.break_connection(bench.reducer, downtime=1.0)
    bench.scheduler.run()
    assert {when for when, _ in bench.course} == {1.0}


def test_a_connection_may_break_from_within_a_confirm() -> None:
    bench = Bench()
    confirmed: list[str] = []

    def break_once(error: FedMQError | None) -> None:
        confirmed.append("first")
        bench.broker.break_connection(bench.reducer, downtime=1.0)

    bench.reducer.publish(Outgoing("a.task", "task.c1", b"", "first"), break_once)
    bench.publish("second")
    bench.scheduler.run()
    assert confirmed == ["first"]
    assert sorted(what for _, what in bench.course) == ["first", "second", "second", "second confirmed"]
