"""Which clients a combiner receives messages from, and what the reducer learns of it."""

from __future__ import annotations

from combiner.protocol import REDUCER, Combiner, decline, key, welcome
from fedmq.runtime.effects import Ack, Drained, StartTimer, Stopping
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import VirtualScheduler
from fedmq_combiner.actor import presence_fields
from fedmq_schemas.messages import ClientHello, ClientPresence, CombinerPresence, Progress
from support.cores import all_of, bodies, events, one

BEAT, CHANGES, FULL = "presence:beat", "presence:changes", "presence:full"


def test_new_clients_are_reported_together_after_a_moment(combiner: Combiner) -> None:
    first = combiner.receive(ClientPresence(), "c2")
    assert [event.client for event in events(first, "client.joined")] == ["c2"]
    assert StartTimer(CHANGES, 0.02) in first
    combiner.receive(ClientPresence(), "c1")
    assert not events(combiner.receive(ClientPresence(), "c1"), "client.joined")
    assert bodies(combiner.fire(CHANGES), CombinerPresence) == [CombinerPresence(clients=2, present=("c1", "c2"))]
    assert combiner.decisions.clients == 2


def test_a_client_that_leaves_is_reported(combiner: Combiner) -> None:
    combiner.receive(ClientPresence(), "c1")
    left = combiner.receive(ClientPresence(leaving=True), "c1")
    assert [event.data["reason"] for event in events(left, "client.vanished")] == ["it left"]
    assert bodies(combiner.fire(CHANGES), CombinerPresence) == [CombinerPresence(clients=0, gone=("c1",))]
    assert not events(combiner.receive(ClientPresence(leaving=True), "c1"), "client.vanished")


def test_a_client_that_leaves_and_returns_at_once_is_present(combiner: Combiner) -> None:
    combiner.receive(ClientPresence(), "c1")
    combiner.receive(ClientPresence(leaving=True), "c1")
    combiner.receive(ClientPresence(), "c1")
    assert bodies(combiner.fire(CHANGES), CombinerPresence) == [CombinerPresence(clients=1, present=("c1",))]


def test_a_client_that_is_assigned_elsewhere_is_gone_and_has_not_vanished(combiner: Combiner) -> None:
    moved = ClientPresence(leaving=True, reassigned=True)
    combiner.receive(ClientPresence(), "c1")
    combiner.fire(CHANGES)
    assert not events(combiner.receive(moved, "c1"), "client.vanished")
    assert bodies(combiner.fire(CHANGES), CombinerPresence) == [CombinerPresence(clients=0, gone=("c1",))]
    assert combiner.receive(moved, "c1") == [Ack((combiner.tag,))]


def test_a_client_that_still_answers_a_task_after_it_was_assigned_elsewhere_does_not_join_again(
    combiner: Combiner,
) -> None:
    combiner.receive(ClientHello(), "c1")
    combiner.receive(ClientPresence(leaving=True, reassigned=True), "c1")
    combiner.fire(CHANGES)
    for late in (decline(), Progress(plan=key(), fraction=0.5)):
        assert not events(combiner.receive(late, "c1"), "client.joined")
    assert bodies(combiner.fire(BEAT), CombinerPresence) == [CombinerPresence(clients=0)]
    for again in (ClientHello(), ClientPresence()):
        assert events(combiner.receive(again, "c1"), "client.joined")
        combiner.receive(ClientPresence(leaving=True, reassigned=True), "c1")


def test_a_client_that_is_silent_for_three_periods_has_vanished(combiner: Combiner) -> None:
    combiner.receive(ClientPresence(), "c1")
    for _ in range(3):
        assert not events(combiner.fire(BEAT), "client.vanished")
    combiner.at += 0.1
    lost = combiner.fire(BEAT)
    assert [event.client for event in events(lost, "client.vanished")] == ["c1"]
    assert bodies(lost, CombinerPresence) == [CombinerPresence(clients=0)]


def test_a_hello_is_reported_each_time_as_the_reducer_may_have_moved_the_client(combiner: Combiner) -> None:
    for _ in range(2):
        assert all_of(combiner.receive(ClientHello(), "c1"), StartTimer) == [StartTimer(CHANGES, 0.02)]
        assert bodies(combiner.fire(CHANGES), CombinerPresence) == [CombinerPresence(clients=1, present=("c1",))]


def test_each_period_the_number_of_clients_is_reported(combiner: Combiner) -> None:
    beat = combiner.fire(BEAT)
    assert bodies(beat, CombinerPresence) == [CombinerPresence(clients=0)]
    assert StartTimer(BEAT, 10.0) in beat


def test_the_full_list_is_held_back_until_all_clients_have_had_time_to_report(combiner: Combiner) -> None:
    combiner.receive(ClientPresence(), "c1")
    assert combiner.timers[FULL] == 20.0
    assert bodies(combiner.fire(FULL), CombinerPresence) == [CombinerPresence(clients=1, present=("c1",), full=True)]
    assert CHANGES in combiner.timers
    assert bodies(combiner.fire(CHANGES), CombinerPresence) == []


def test_a_reducer_that_becomes_active_later_gets_the_full_list_at_once(combiner: Combiner) -> None:
    combiner.at = 30.0
    full = bodies(combiner.receive(welcome(epoch=2), REDUCER), CombinerPresence)
    assert full == [CombinerPresence(clients=0, full=True)]


def test_long_lists_come_in_parts_of_five_hundred(combiner: Combiner) -> None:
    for number in range(1_001):
        combiner.receive(ClientPresence(), f"c{number:04}")
    changes = bodies(combiner.fire(CHANGES), CombinerPresence)
    assert [len(part.present) for part in changes] == [500, 500, 1]
    full = bodies(combiner.fire(FULL), CombinerPresence)
    assert [(len(part.present), part.more) for part in full] == [(500, True), (500, True), (1, False)]
    assert all(part.full for part in full)


def test_a_combiner_that_the_broker_does_not_serve_reports_no_clients() -> None:
    standby = Combiner()
    standby.start()
    assert standby.fire(BEAT) == [StartTimer(BEAT, 10.0)]


def test_after_a_lost_connection_changes_are_reported_once_the_broker_serves_the_combiner(combiner: Combiner) -> None:
    combiner.receive(ClientPresence(), "c1")
    combiner.reconnect()
    assert combiner.fire(CHANGES) == []
    assert StartTimer(CHANGES, 0.02) in combiner.receive(welcome(), REDUCER)
    assert bodies(combiner.fire(CHANGES), CombinerPresence) == [CombinerPresence(clients=1, present=("c1",))]


def test_a_combiner_that_stops_leaves(combiner: Combiner) -> None:
    stopping = combiner.handle(Stopping())
    assert bodies(stopping, CombinerPresence) == [CombinerPresence(clients=0, leaving=True)]
    assert one(stopping, Drained) == stopping[-1]


def test_a_combiner_that_the_broker_does_not_serve_stops_without_a_goodbye(combiner: Combiner) -> None:
    standby = Combiner()
    standby.start()
    combiner.reconnect()
    assert standby.handle(Stopping()) == combiner.handle(Stopping()) == [Drained()]


def test_a_presence_message_reports_stalls_and_lacks_the_field_without_one() -> None:
    scheduler = VirtualScheduler()
    stalls = Stalls(scheduler.wall)
    stalls.note("a", "blob_store", "it is full", "Close")
    assert presence_fields(stalls, CombinerPresence(clients=1)).keys() == {
        "clients",
        "present",
        "gone",
        "full",
        "more",
        "leaving",
    }
    scheduler.later(5.0, lambda: None)
    scheduler.run()
    sent = presence_fields(stalls, CombinerPresence(clients=1))
    assert CombinerPresence.model_validate(sent).stalls == tuple(stalls.current())
    assert sent["stalls"][0]["reason"] == "it is full"
