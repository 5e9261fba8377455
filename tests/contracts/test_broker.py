"""The broker port's promises, on every adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from contracts.worlds import Confirms, Inbox, MemoryWorld, RabbitmqWorld, World, message
from fedmq.brokers.base import JSON, Connection, Outgoing
from fedmq.errors import ConfigError, FedMQError, NotFound
from fedmq_schemas.topology import Binding, Queue


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.system)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made: World = (
        MemoryWorld() if request.param == "memory" else RabbitmqWorld(request.getfixturevalue("rabbitmq_server"))
    )
    yield made
    made.close()


def send(world: World, sender: Connection, key: str, *ids: str, exchange: str = "task") -> None:
    """Publishes and waits until all are confirmed."""
    confirms: Confirms = []
    for each in ids:
        sender.publish(message(world.topology, exchange, key, each), confirms.append)
    world.until(lambda: len(confirms) == len(ids))
    assert confirms == [None] * len(ids)


def open_inbox(world: World, connection: Connection, queue: Queue, prefetch: int = 0, acking: bool = True) -> Inbox:
    inbox = Inbox(connection, acking)
    connection.consume(queue.name, prefetch, inbox)
    return inbox


def numbered(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


# Publishing.


def test_a_delivery_says_what_was_published_and_where(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.client("c1")
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    connection.publish(Outgoing(world.topology.exchange("task"), "task.c1", b"\x00\xff", "m1", JSON))
    world.until(lambda: inbox.ids == ["m1"])
    (delivery,) = inbox.deliveries
    assert delivery.body == b"\x00\xff"
    assert (delivery.queue, delivery.exchange, delivery.routing_key) == (
        queue.name,
        world.topology.exchange("task"),
        "task.c1",
    )
    assert delivery.content_type == JSON
    assert not delivery.redelivered
    assert delivery.user in ("reducer.r1", "guest")
    assert delivery.headers == {}


@pytest.mark.parametrize(
    ("pattern", "matches", "misses"),
    [
        ("task.c1", ["task.c1"], ["task.c2", "task", "task.c1.x"]),
        ("task.*", ["task.c1"], ["task", "task.c1.x"]),
        ("task.#", ["task", "task.c1", "task.c1.x"], ["tasks.c1"]),
        ("*.c1.#", ["task.c1", "plan.c1.x.y"], ["c1", "task.c2.c1"]),
        ("#.x", ["x", "a.x", "a.b.x"], ["x.a"]),
        ("#", ["a", "a.b"], []),
        ("a.#.b.*", ["a.b.c", "a.x.y.b.c", "a.b.b.c"], ["a.b", "a.x.c"]),
    ],
)
def test_keys_are_routed_by_words_star_and_hash(
    world: World, pattern: str, matches: list[str], misses: list[str]
) -> None:
    connection = world.connect("reducer.r1")
    queue = replace(world.topology.client("c1"), bindings=(Binding(world.topology.exchange("task"), pattern),))
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    for key in [*misses, *matches]:
        connection.publish(message(world.topology, "task", key, key))
    world.until(lambda: len(inbox.ids) >= len(matches))
    world.rest(0.0)
    assert inbox.ids == matches


def test_a_queue_whose_bindings_match_twice_gets_one_copy(world: World) -> None:
    connection = world.connect("reducer.r1")
    task = world.topology.exchange("task")
    queue = replace(world.topology.client("c1"), bindings=(Binding(task, "task.#"), Binding(task, "*.c1")))
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    send(world, connection, "task.c1", "m1")
    send(world, connection, "task.c2", "m2")
    world.until(lambda: "m2" in inbox.ids)
    assert inbox.ids == ["m1", "m2"]


def test_each_bound_queue_gets_its_copy(world: World) -> None:
    connection = world.connect("reducer.r1")
    inboxes = []
    for name in ("a", "b"):
        queue = replace(world.topology.client(name), bindings=(Binding(world.topology.exchange("event"), "event.#"),))
        connection.declare(queue)
        inboxes.append(open_inbox(world, connection, queue))
    send(world, connection, "event.s1.round", "m1", exchange="event")
    world.until(lambda: all(inbox.ids == ["m1"] for inbox in inboxes))


def test_nothing_is_confirmed_or_delivered_from_within_a_call(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.client("c1")
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    confirms: Confirms = []
    connection.publish(message(world.topology, "task", "task.c1", "m1"), confirms.append)
    assert confirms == []
    assert inbox.ids == []
    world.until(lambda: confirms == [None] and inbox.ids == ["m1"])


def test_thousands_of_messages_arrive_once_and_in_order(world: World) -> None:
    sender, receiver = world.connect("combiner.c1"), world.connect("reducer.r1")
    queue = world.topology.reducer()
    receiver.declare(queue)
    inbox = open_inbox(world, receiver, queue, prefetch=100)
    world.rest()
    send(world, sender, "update.reducer.c1", *numbered(1, 3000), exchange="update")
    world.until(lambda: len(inbox.ids) == 3000)
    assert inbox.ids == numbered(1, 3000)


def test_what_no_queue_receives_is_confirmed_unless_it_is_mandatory(world: World) -> None:
    connection = world.connect("reducer.r1")
    connection.declare(world.topology.client("c1"))
    confirms: Confirms = []
    connection.publish(message(world.topology, "task", "task.nobody", "m1"), confirms.append)
    connection.publish(message(world.topology, "task", "task.nobody", "m2", mandatory=True), confirms.append)
    connection.publish(message(world.topology, "task", "task.c1", "m3", mandatory=True), confirms.append)
    world.until(lambda: len(confirms) == 3)
    assert [type(each) for each in confirms] == [type(None), NotFound, type(None)]
    assert "task.nobody" in str(confirms[1])


def test_an_absent_exchange_fails_the_confirm_and_disturbs_no_other_message(world: World) -> None:
    connection = world.connect("client.c1")
    other = world.connect("reducer.r1")
    queue = world.topology.client("c1")
    other.declare(queue)
    inbox = open_inbox(world, other, queue)
    world.rest()
    confirms: dict[str, FedMQError | None] = {}
    for exchange, key, number in [("task", "task.c1", "1"), ("nowhere", "x", "2"), ("task", "task.c1", "3")]:
        connection.publish(
            message(world.topology, exchange, key, number),
            partial(confirms.__setitem__, number),
        )
    world.until(lambda: len(confirms) == 3)
    assert isinstance(confirms.pop("2"), NotFound)
    assert confirms == {"1": None, "3": None}
    world.until(lambda: set(inbox.ids) == {"1", "3"})


# Queues.


def test_declaring_again_changes_nothing(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.combiner("k1")
    connection.declare(queue)
    send(world, connection, "plan.k1", "m1")
    world.connect("combiner.k1").declare(queue)
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    world.until(lambda: inbox.ids == ["m1"])


def test_declaring_with_other_arguments_is_reported_with_the_remedy(world: World) -> None:
    connection, other = world.connect("reducer.r1"), world.connect("reducer.r2")
    queue = world.topology.client("c1")
    connection.declare(queue)
    send(world, connection, "task.c1", "m1")
    errors: list[FedMQError] = []
    other.on_error = errors.append
    other.declare(replace(queue, expires=3600.0))
    world.until(lambda: bool(errors))
    assert isinstance(errors[0], ConfigError)
    assert queue.name in errors[0].reason
    assert "delete it" in errors[0].reason
    send(world, other, "task.c1", "m2")
    inbox = open_inbox(world, connection, queue)
    world.until(lambda: inbox.ids == ["m1", "m2"])
    assert len(errors) == 1


def test_an_error_that_nobody_handles_ends_the_run(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.client("c1")
    connection.declare(queue)
    connection.declare(replace(queue, expires=3600.0))
    with pytest.raises(ConfigError, match=queue.name):
        world.until(lambda: False)


def test_a_deleted_queue_is_gone_with_its_messages_and_comes_back_empty(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.client("c1")
    connection.declare(queue)
    send(world, connection, "task.c1", "m1")
    connection.delete(queue.name)
    connection.delete(queue.name)
    confirms: Confirms = []
    connection.publish(message(world.topology, "task", "task.c1", "m2", mandatory=True), confirms.append)
    world.until(lambda: len(confirms) == 1)
    assert isinstance(confirms[0], NotFound)
    connection.declare(queue)
    send(world, connection, "task.c1", "m3")
    inbox = open_inbox(world, connection, queue)
    world.until(lambda: inbox.ids == ["m3"])


def test_a_consumer_waits_for_its_queue_and_again_after_a_deletion(world: World) -> None:
    client, reducer = world.connect("client.c1"), world.connect("reducer.r1")
    queue = world.topology.client("c1")
    inbox = open_inbox(world, client, queue)
    world.rest()
    reducer.declare(queue)
    send(world, reducer, "task.c1", "m1")
    world.until(lambda: inbox.ids == ["m1"])
    reducer.delete(queue.name)
    world.rest()
    reducer.declare(queue)
    send(world, reducer, "task.c1", "m2")
    world.until(lambda: inbox.ids == ["m1", "m2"])


def test_an_expired_message_vanishes_and_is_no_dead_letter(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue, dead = world.topology.combiner("k1"), world.topology.dead()
    connection.declare(queue)
    connection.declare(dead)
    soon = replace(message(world.topology, "task", "plan.k1", "m1"), expiration=0.2)
    confirms: Confirms = []
    connection.publish(soon, confirms.append)
    connection.publish(replace(soon, message_id="m2", expiration=60.0), confirms.append)
    world.until(lambda: len(confirms) == 2)
    world.rest(0.5)
    inbox, letters = open_inbox(world, connection, queue), open_inbox(world, connection, dead)
    world.until(lambda: bool(inbox.ids))
    world.rest()
    assert inbox.ids == ["m2"]
    assert letters.ids == []


def test_an_unused_queue_expires_and_a_used_one_does_not(world: World) -> None:
    connection = world.connect("reducer.r1")
    used, unused = (replace(world.topology.client(name), expires=0.5) for name in ("used", "unused"))
    connection.declare(used)
    connection.declare(unused)
    inbox = open_inbox(world, connection, used)
    world.rest(1.5)
    confirms: dict[str, FedMQError | None] = {}
    for name in ("used", "unused"):
        connection.publish(
            message(world.topology, "task", f"task.{name}", name, mandatory=True),
            partial(confirms.__setitem__, name),
        )
    world.until(lambda: len(confirms) == 2)
    assert confirms["used"] is None
    assert isinstance(confirms["unused"], NotFound)
    world.until(lambda: inbox.ids == ["used"])


def test_a_full_queue_drops_its_oldest(world: World) -> None:
    connection = world.connect("observer.o1")
    queue = replace(world.topology.observer("o1"), max_length=3)
    connection.declare(queue)
    send(world, connection, "event.s1.round", *numbered(1, 5), exchange="event")
    inbox = open_inbox(world, connection, queue)
    world.until(lambda: len(inbox.ids) == 3)
    assert inbox.ids == ["3", "4", "5"]


def test_an_exclusive_queue_goes_with_its_connection(world: World) -> None:
    observer, other = world.connect("observer.o1"), world.connect("reducer.r1")
    observer.declare(world.topology.observer("o1"))
    send(world, observer, "event.s1.round", "m1", exchange="event")
    observer.close()

    def answer() -> FedMQError | None:
        confirms: Confirms = []
        other.publish(message(world.topology, "event", "event.s1.x", "m2", mandatory=True), confirms.append)
        world.until(lambda: bool(confirms))
        return confirms[0]

    world.until(lambda: True)
    assert isinstance(answer(), NotFound)


# Consuming.


def test_no_more_than_the_prefetch_is_unsettled(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.reducer()
    connection.declare(queue)
    send(world, connection, "control.start", *numbered(1, 6), exchange="control")
    inbox = open_inbox(world, connection, queue, prefetch=2, acking=False)
    world.until(lambda: len(inbox.ids) == 2)
    world.rest()
    assert inbox.ids == ["1", "2"]
    connection.ack([inbox.tags[1]])
    world.until(lambda: len(inbox.ids) == 3)
    connection.ack([inbox.tags[0], inbox.tags[2]])
    world.until(lambda: len(inbox.ids) == 5)
    world.rest()
    assert inbox.ids == numbered(1, 5)


def test_without_a_prefetch_all_is_delivered(world: World) -> None:
    connection = world.connect("reducer.r1")
    queue = world.topology.client("c1")
    connection.declare(queue)
    send(world, connection, "task.c1", *numbered(1, 300))
    inbox = open_inbox(world, connection, queue, acking=False)
    world.until(lambda: len(inbox.ids) == 300)


def test_what_is_acked_never_comes_back_and_the_rest_comes_first_and_in_order(world: World) -> None:
    first, second, sender = world.connect("combiner.k1"), world.connect("combiner.k2"), world.connect("client.c1")
    queue = world.topology.combiner("k1")
    first.declare(queue)
    send(world, first, "update.k1.c1", *numbered(1, 8), exchange="update")
    inbox = open_inbox(world, first, queue, prefetch=6, acking=False)
    world.until(lambda: len(inbox.ids) == 6)
    first.ack([inbox.tags[3], inbox.tags[0]])
    first.close()
    send(world, sender, "update.k1.c1", "9", exchange="update")
    again = open_inbox(world, second, queue)
    world.until(lambda: len(again.ids) == 7)
    assert again.ids == ["2", "3", "5", "6", "7", "8", "9"]
    # 7 and 8 may have been on their way to the first consumer, as acks made room for them.
    assert [each.redelivered for each in again.deliveries][:4] == [True] * 4
    assert not again.deliveries[-1].redelivered


def test_a_kill_returns_the_unsettled_to_the_front_in_order(world: World) -> None:
    first, second = world.connect("combiner.k1"), world.connect("combiner.k2")
    queue = world.topology.combiner("k1")
    first.declare(queue)
    second.declare(queue)
    send(world, second, "update.k1.c1", *numbered(1, 5), exchange="update")
    inbox = open_inbox(world, first, queue, prefetch=3, acking=False)
    world.until(lambda: len(inbox.ids) == 3)
    again = open_inbox(world, second, queue)
    first.kill()
    world.until(lambda: len(again.ids) == 5)
    assert again.ids == numbered(1, 5)
    assert [each.redelivered for each in again.deliveries] == [True, True, True, False, False]


def test_tags_that_are_unknown_or_settled_do_nothing(world: World) -> None:
    connection = world.connect("combiner.k1")
    queue, dead = world.topology.combiner("k1"), world.topology.dead()
    connection.declare(queue)
    connection.declare(dead)
    inbox, letters = open_inbox(world, connection, queue), open_inbox(world, connection, dead)
    send(world, connection, "plan.k1", "m1")
    world.until(lambda: inbox.ids == ["m1"])
    for tag in (inbox.tags[0], 10_000):
        connection.ack([tag, tag])
        connection.reject(tag, "late")
        connection.requeue(tag)
    send(world, connection, "plan.k1", "m2")
    world.until(lambda: len(inbox.ids) == 2)
    world.rest()
    assert inbox.ids == ["m1", "m2"]
    assert letters.ids == []


@pytest.mark.parametrize("inbox_kind", ["combiner", "client"])
def test_a_reject_becomes_a_dead_letter_with_reason_and_origin(world: World, inbox_kind: str) -> None:
    connection = world.connect("combiner.k1")
    topology = world.topology
    queue, key = (topology.combiner("x"), "plan.x") if inbox_kind == "combiner" else (topology.client("x"), "task.x")
    connection.declare(queue)
    connection.declare(topology.dead())
    inbox = open_inbox(world, connection, queue, acking=False)
    letters = open_inbox(world, connection, topology.dead())
    send(world, connection, key, "m1")
    world.until(lambda: inbox.ids == ["m1"])
    connection.reject(inbox.tags[0], "no such kind")
    connection.reject(inbox.tags[0], "no such kind")
    world.until(lambda: bool(letters.ids))
    world.rest()
    (letter,) = letters.deliveries
    assert (letter.message_id, letter.body, letter.routing_key) == ("m1", b"body", queue.name)
    assert letter.headers == {
        "x-fedmq-reason": "no such kind",
        "x-fedmq-exchange": topology.exchange("task"),
        "x-fedmq-routing-key": key,
        "x-fedmq-sender": inbox.deliveries[0].user,
    }
    connection.close()
    again = open_inbox(world, world.connect("combiner.k2"), queue)
    world.rest()
    assert again.ids == []


def test_a_requeued_message_comes_again_and_none_is_lost(world: World) -> None:
    connection = world.connect("combiner.k1")
    queue = world.topology.combiner("k1")
    connection.declare(queue)
    send(world, connection, "plan.k1", "1", "2", "3")
    inbox = open_inbox(world, connection, queue, prefetch=1, acking=False)
    world.until(lambda: inbox.ids == ["1"])
    connection.requeue(inbox.tags[0])
    inbox.acking = True
    world.until(lambda: len(inbox.ids) == 4)
    assert sorted(inbox.ids) == ["1", "1", "2", "3"]
    assert [each.redelivered for each in inbox.deliveries if each.message_id == "1"] == [False, True]


def test_an_actor_may_give_back_all_it_holds_and_consume_anew(world: World) -> None:
    connection = world.connect("combiner.k1")
    queue = world.topology.combiner("k1")
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue, acking=False)
    send(world, connection, "plan.k1", "1", "2", "3")
    world.until(lambda: len(inbox.ids) == 3)
    connection.cancel(queue.name)
    for tag in inbox.tags:
        connection.requeue(tag)
    again = open_inbox(world, connection, queue)
    world.until(lambda: len(again.ids) == 3)
    assert again.ids == ["1", "2", "3"]


def test_only_the_first_live_consumer_receives_from_a_single_active_consumer_queue(world: World) -> None:
    first, second, sender = world.connect("reducer.r1"), world.connect("reducer.r2"), world.connect("client.c1")
    queue = world.topology.reducer()
    first.declare(queue)
    active = open_inbox(world, first, queue, prefetch=2, acking=False)
    send(world, first, "control.a", "1", exchange="control")
    world.until(lambda: active.ids == ["1"])
    standby = open_inbox(world, second, queue)
    world.rest()
    send(world, sender, "control.a", "2", "3", exchange="control")
    world.until(lambda: active.ids == ["1", "2"])
    world.rest()
    assert standby.ids == [], "also when the active one has no room"
    first.ack(active.tags)
    world.until(lambda: active.ids == ["1", "2", "3"])
    first.kill()
    send(world, sender, "control.a", "4", exchange="control")
    world.until(lambda: standby.ids == ["3", "4"])


def test_a_cancelled_active_consumer_hands_over(world: World) -> None:
    first, second = world.connect("reducer.r1"), world.connect("reducer.r2")
    queue = world.topology.reducer()
    first.declare(queue)
    active = open_inbox(world, first, queue)
    send(world, first, "control.a", "1", exchange="control")
    world.until(lambda: active.ids == ["1"])
    standby = open_inbox(world, second, queue)
    world.rest()
    first.cancel(queue.name)
    world.rest()
    send(world, first, "control.a", "2", exchange="control")
    world.until(lambda: standby.ids == ["2"])
    assert active.ids == ["1"]


def test_consumers_of_other_queues_share_the_messages(world: World) -> None:
    first, second = world.connect("records.a"), world.connect("records.b")
    queue = world.topology.records()
    first.declare(queue)
    second.declare(queue)
    inboxes = [open_inbox(world, each, queue, prefetch=1) for each in (first, second)]
    world.rest()
    send(world, first, "event.s.x", *numbered(1, 20), exchange="event")
    world.until(lambda: sum(len(inbox.ids) for inbox in inboxes) == 20)
    assert sorted(inboxes[0].ids + inboxes[1].ids, key=int) == numbered(1, 20)
    assert all(inbox.ids for inbox in inboxes)


def test_after_a_cancel_nothing_is_delivered_and_the_unsettled_stay_settleable(world: World) -> None:
    connection, other = world.connect("combiner.k1"), world.connect("combiner.k2")
    queue = world.topology.records()
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue, acking=False)
    send(world, connection, "event.s.x", "1", "2", exchange="event")
    world.until(lambda: len(inbox.ids) == 2)
    connection.cancel(queue.name)
    connection.cancel(queue.name)
    send(world, connection, "event.s.x", "3", exchange="event")
    world.rest()
    assert inbox.ids == ["1", "2"]
    connection.ack([inbox.tags[0]])
    connection.requeue(inbox.tags[1])
    again = open_inbox(world, other, queue)
    world.until(lambda: len(again.ids) == 2)
    world.rest()
    assert sorted(again.ids) == ["2", "3"]


def test_a_queue_can_be_consumed_again_after_a_cancel(world: World) -> None:
    connection = world.connect("combiner.k1")
    queue = world.topology.combiner("k1")
    connection.declare(queue)
    open_inbox(world, connection, queue)
    with pytest.raises(ConfigError, match="already"):
        open_inbox(world, connection, queue)
    connection.cancel(queue.name)
    inbox = open_inbox(world, connection, queue)
    send(world, connection, "plan.k1", "m1")
    world.until(lambda: inbox.ids == ["m1"])


# Losing and leaving.


def test_a_lost_connection_comes_back_whole(world: World) -> None:
    connection, sender = world.connect("combiner.k1"), world.connect("reducer.r1")
    queue = world.topology.combiner("k1")
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue, prefetch=3, acking=False)
    send(world, connection, "plan.k1", *numbered(1, 4))
    world.until(lambda: len(inbox.ids) == 3)
    reconnects: list[int] = []
    connection.on_reconnect = lambda: reconnects.append(len(inbox.ids))
    world.cut(connection)
    send(world, sender, "plan.k1", "5")
    world.restore(connection)
    world.until(lambda: len(inbox.ids) == 6)
    assert inbox.ids == ["1", "2", "3", "1", "2", "3"]
    assert reconnects == [3], "told once, before anything is delivered again"
    assert all(each.redelivered for each in inbox.deliveries[3:])
    connection.ack(inbox.tags[:3])
    world.rest()
    assert len(inbox.ids) == 6, "tags of before settle nothing"
    assert len(set(inbox.tags)) == 6
    inbox.acking = True
    connection.ack(inbox.tags[3:])
    world.until(lambda: inbox.ids[6:] == ["4", "5"])


def test_what_is_unconfirmed_at_a_loss_is_sent_again_in_order(world: World) -> None:
    connection, receiver = world.connect("client.c1"), world.connect("combiner.k1")
    queue = world.topology.combiner("k1")
    receiver.declare(queue)
    inbox = open_inbox(world, receiver, queue)
    send(world, receiver, "plan.k1", "0")
    confirmed: list[str] = []

    def publish(number: str) -> None:
        connection.publish(
            message(world.topology, "update", "update.k1.c1", number), lambda error: confirmed.append(number)
        )

    for number in numbered(1, 50):
        publish(number)
    world.cut(connection)
    for number in numbered(51, 100):
        publish(number)
    world.rest()
    world.restore(connection)
    world.until(lambda: len(confirmed) == 100)
    assert confirmed == numbered(1, 100)
    world.until(lambda: inbox.ids[-1:] == ["100"])
    assert list(dict.fromkeys(inbox.ids)) == numbered(0, 100)


def test_declarations_and_deletions_during_a_loss_are_done_after_it(world: World) -> None:
    connection = world.connect("reducer.r1")
    old, new = world.topology.client("old"), world.topology.client("new")
    connection.declare(old)
    send(world, connection, "task.old", "m1")
    world.cut(connection)
    world.rest()
    connection.delete(old.name)
    connection.declare(new)
    confirms: Confirms = []
    for key in ("task.old", "task.new"):
        connection.publish(message(world.topology, "task", key, key, mandatory=True), confirms.append)
    world.restore(connection)
    world.until(lambda: len(confirms) == 2)
    assert [type(each) for each in confirms] == [NotFound, type(None)]


def test_an_exclusive_queue_is_made_again_after_a_loss(world: World) -> None:
    connection, sender = world.connect("observer.o1"), world.connect("reducer.r1")
    queue = world.topology.observer("o1")
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    send(world, connection, "event.s.x", "1", exchange="event")
    world.until(lambda: inbox.ids == ["1"])
    back: list[bool] = []
    connection.on_reconnect = lambda: back.append(True)
    world.cut(connection)
    world.rest()
    world.restore(connection)
    world.until(lambda: bool(back))
    send(world, connection, "event.s.x", "2", exchange="event")
    send(world, sender, "event.s.x", "3", exchange="event")
    world.until(lambda: inbox.ids[-2:] == ["2", "3"])


def test_a_connection_that_is_cancelled_during_a_loss_stays_cancelled(world: World) -> None:
    connection, sender = world.connect("combiner.k1"), world.connect("reducer.r1")
    queue = world.topology.combiner("k1")
    connection.declare(queue)
    inbox = open_inbox(world, connection, queue)
    send(world, connection, "plan.k1", "1")
    world.until(lambda: inbox.ids == ["1"])
    back: list[bool] = []
    connection.on_reconnect = lambda: back.append(True)
    world.cut(connection)
    world.rest()
    connection.cancel(queue.name)
    world.restore(connection)
    world.until(lambda: bool(back))
    send(world, sender, "plan.k1", "2")
    world.rest()
    assert inbox.ids == ["1"]


def test_a_close_waits_until_all_is_confirmed(world: World) -> None:
    connection, receiver = world.connect("client.c1"), world.connect("combiner.k1")
    queue = world.topology.combiner("k1")
    receiver.declare(queue)
    inbox = open_inbox(world, receiver, queue)
    send(world, receiver, "plan.k1", "0")
    confirms: Confirms = []
    for number in numbered(1, 2000):
        connection.publish(message(world.topology, "update", "update.k1.c1", number), confirms.append)
    connection.close()
    world.until(lambda: len(inbox.ids) == 2001)
    world.until(lambda: len(confirms) == 2000)
    assert confirms == [None] * 2000


def test_a_closed_connection_does_nothing_more(world: World) -> None:
    connection, other = world.connect("combiner.k1"), world.connect("reducer.r1")
    queue = world.topology.combiner("k1")
    other.declare(queue)
    inbox = open_inbox(world, connection, queue, acking=False)
    send(world, other, "plan.k1", "1")
    world.until(lambda: inbox.ids == ["1"])
    connection.close()
    connection.close()
    connection.kill()
    connection.ack(inbox.tags)
    connection.reject(inbox.tags[0], "late")
    connection.requeue(inbox.tags[0])
    connection.cancel(queue.name)
    connection.delete(queue.name)
    connection.declare(replace(queue, expires=1.0))
    connection.consume(queue.name, 1, inbox)
    connection.publish(message(world.topology, "task", "plan.k1", "2"))
    again = open_inbox(world, other, queue)
    world.until(lambda: bool(again.ids))
    world.rest()
    assert again.ids == ["1"]
    assert inbox.ids == ["1"]
