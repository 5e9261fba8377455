"""Two processes with one client's name are noticed, and a restarted client is not taken for two."""

from __future__ import annotations

from combiner.protocol import Combiner, decline, key, plan, update
from fedmq.runtime.effects import Effect, Publish
from fedmq_schemas.keys import LONGEST_EVENT_ID
from fedmq_schemas.messages import ClientHello, ClientPresence, DuplicateClient, UpdateOutcome
from support.cores import bodies, events


def hello(combiner: Combiner, instance: str) -> list[Effect]:
    return list(combiner.receive(ClientHello(instance=instance), "c1"))


def beat(combiner: Combiner, instance: str, *, leaving: bool = False) -> list[Effect]:
    return list(combiner.receive(ClientPresence(instance=instance, leaving=leaving), "c1"))


def test_an_instance_that_sends_again_after_another_one_shows_that_both_live(combiner: Combiner) -> None:
    assert not events(hello(combiner, "a"), "client.duplicate")
    assert not events(hello(combiner, "b"), "client.duplicate")
    found = beat(combiner, "a")
    [event] = events(found, "client.duplicate")
    assert (event.client, event.combiner) == ("c1", "k1")
    assert event.data["instances"] == ["a", "b"] and event.data["continues"] == "a"
    assert event.data["reason"] == "two processes work as client c1: instance a continues, b is to end"
    assert bodies(found, DuplicateClient) == [DuplicateClient(continues="a", other="b")] * 2
    assert {each.routing_key for each in found if isinstance(each, Publish)} == {"task.c1"}


def test_the_first_instance_goes_on_whichever_sends_and_the_event_is_recorded_once(combiner: Combiner) -> None:
    hello(combiner, "a")
    hello(combiner, "b")
    again = [events(beat(combiner, each), "client.duplicate")[0] for each in ("a", "b", "a")]
    assert {event.data["continues"] for event in again} == {"a"}
    assert {event.id for event in again} == {"duplicate-c1-a-b"}


def test_a_restarted_client_is_not_a_duplicate(combiner: Combiner) -> None:
    for instance in ("a", "a", "b", "b", "c", "c"):
        assert not events(hello(combiner, instance), "client.duplicate")
        assert not events(beat(combiner, instance), "client.duplicate")


def test_a_duplicate_of_a_restarted_client_ends_and_not_the_restarted_one(combiner: Combiner) -> None:
    for instance in ("old", "a", "b"):
        hello(combiner, instance)
    assert bodies(beat(combiner, "a"), DuplicateClient)[0] == DuplicateClient(continues="a", other="b")


def test_the_client_stays_present_when_the_other_process_leaves(combiner: Combiner) -> None:
    for instance in ("a", "b", "a", "b"):
        beat(combiner, instance)
    assert not events(beat(combiner, "b", leaving=True), "client.vanished")
    assert combiner.decisions.clients == 1
    assert not events(beat(combiner, "a"), "client.duplicate")
    assert events(beat(combiner, "a", leaving=True), "client.vanished")


def test_a_restarted_client_that_leaves_has_vanished(combiner: Combiner) -> None:
    beat(combiner, "a")
    beat(combiner, "b")
    assert events(beat(combiner, "b", leaving=True), "client.vanished")


def test_clients_of_earlier_releases_state_no_instance_and_are_never_duplicates(combiner: Combiner) -> None:
    for _ in range(3):
        assert not events(beat(combiner, ""), "client.duplicate")


def test_a_client_that_states_its_instance_gets_the_outcome_of_its_update(combiner: Combiner) -> None:
    hello(combiner, "a")
    combiner.open(plan(key(), "c1", "c2"))
    accepted = combiner.accept("c1")
    assert bodies(accepted, UpdateOutcome) == [UpdateOutcome(plan=key(), outcome="accepted")]
    late = combiner.receive(update("c1", "b"), "c1")
    [outcome] = bodies(late, UpdateOutcome)
    assert outcome.outcome == "discarded" and outcome.reason
    assert not bodies(combiner.accept("c2"), UpdateOutcome)


def test_no_outcome_is_sent_of_a_decline(combiner: Combiner) -> None:
    hello(combiner, "a")
    combiner.open(plan(key(), "c1"))
    assert not bodies(combiner.receive(decline(), "c1"), UpdateOutcome)


def test_the_event_of_long_instances_has_an_id_that_amqp_can_carry(combiner: Combiner) -> None:
    """Three hellos of one client ended its combiner, and the next one, for good."""
    client = "c" * 64
    for letter in "ab":
        combiner.receive(ClientHello(instance=letter * 64), client)
    found = combiner.receive(ClientHello(instance="a" * 64), client)
    [event] = events(found, "client.duplicate")
    assert event.id and len(event.id.encode()) <= LONGEST_EVENT_ID


def test_duplicates_that_differ_in_the_last_letter_of_a_long_instance_are_two_events(combiner: Combiner) -> None:
    client, first = "c" * 64, "i" * 64
    ids = set()
    for last in "ab":
        for instance in (first, "i" * 63 + last, first):
            found = events(combiner.receive(ClientHello(instance=instance), client), "client.duplicate")
        ids.add(found[0].id)
    assert len(ids) == 2
