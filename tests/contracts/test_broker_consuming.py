"""The broker port: prefetch, acknowledgements, rejects, and who of several consumers receives a message."""

from __future__ import annotations

import pytest

from contracts.worlds import World, connect_with, numbered, open_inbox, send
from fedmq.brokers.base import LONGEST_DEAD_BODY, Outgoing
from fedmq.errors import LONGEST_REASON, ConfigError


def test_no_more_than_the_prefetch_is_unsettled(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.reducer())
    send(world, connection, "control.start", *numbered(1, 6), exchange="control")
    inbox = open_inbox(connection, queue, prefetch=2, acking=False)
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
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    send(world, connection, "task.c1", *numbered(1, 300))
    inbox = open_inbox(connection, queue, acking=False)
    world.until(lambda: len(inbox.ids) == 300)


def test_acked_messages_never_return_and_the_rest_is_redelivered_first_and_in_order(world: World) -> None:
    first, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    second, sender = world.connect("combiner.k2"), world.connect("client.c1")
    send(world, first, "update.k1.c1", *numbered(1, 8), exchange="update")
    inbox = open_inbox(first, queue, prefetch=6, acking=False)
    world.until(lambda: len(inbox.ids) == 6)
    first.ack([inbox.tags[3], inbox.tags[0]])
    first.close()
    send(world, sender, "update.k1.c1", "9", exchange="update")
    again = open_inbox(second, queue)
    world.until(lambda: len(again.ids) == 7)
    assert again.ids == ["2", "3", "5", "6", "7", "8", "9"]
    # 7 and 8 may have been on their way to the first consumer, as acks made room for them.
    assert [each.redelivered for each in again.deliveries][:4] == [True] * 4
    assert not again.deliveries[-1].redelivered


def test_a_kill_returns_the_unsettled_to_the_front_in_order(world: World) -> None:
    first, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    second = world.connect("combiner.k2")
    second.declare(queue)
    send(world, second, "update.k1.c1", *numbered(1, 5), exchange="update")
    inbox = open_inbox(first, queue, prefetch=3, acking=False)
    world.until(lambda: len(inbox.ids) == 3)
    again = open_inbox(second, queue)
    first.kill()
    world.until(lambda: len(again.ids) == 5)
    assert again.ids == numbered(1, 5)
    assert [each.redelivered for each in again.deliveries] == [True, True, True, False, False]


def test_tags_that_are_unknown_or_settled_do_nothing(world: World) -> None:
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    dead = world.topology.dead()
    connection.declare(dead)
    inbox, letters = open_inbox(connection, queue), open_inbox(connection, dead)
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
    inbox = open_inbox(connection, queue, acking=False)
    letters = open_inbox(connection, topology.dead())
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
    again = open_inbox(world.connect("combiner.k2"), queue)
    world.rest()
    assert again.ids == []


def test_a_long_reason_is_cut_and_stops_no_inbox(world: World) -> None:
    """RabbitMQ closed the connection over such a header, and delivered the message again, without end."""
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    connection.declare(world.topology.dead())
    inbox = open_inbox(connection, queue, acking=False)
    letters = open_inbox(connection, world.topology.dead())
    send(world, connection, "plan.k1", "m1")
    world.until(lambda: inbox.ids == ["m1"])
    connection.reject(inbox.tags[0], "unknown kind " + "\x00" * 200_000)
    world.until(lambda: letters.ids == ["m1"])
    reason = str(letters.deliveries[0].headers["x-fedmq-reason"])
    assert reason.startswith("unknown kind ") and len(reason) <= LONGEST_REASON and "\x00" not in reason
    send(world, connection, "plan.k1", "m2")
    world.until(lambda: inbox.ids == ["m1", "m2"])


def test_a_dead_letter_holds_the_beginning_of_a_long_body(world: World) -> None:
    """The dead letters are bounded by their number: whole bodies would fill the broker's disk."""
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    connection.declare(world.topology.dead())
    inbox = open_inbox(connection, queue, acking=False)
    letters = open_inbox(connection, world.topology.dead())
    connection.publish(Outgoing(world.topology.exchange("task"), "plan.k1", bytes(range(256)) * 400, "m1"))
    world.until(lambda: inbox.ids == ["m1"])
    assert len(inbox.deliveries[0].body) == 102_400
    connection.reject(inbox.tags[0], "too long")
    world.until(lambda: letters.ids == ["m1"])
    assert letters.deliveries[0].body == bytes(range(256)) * (LONGEST_DEAD_BODY // 256)


def test_a_requeued_message_is_redelivered_and_none_is_lost(world: World) -> None:
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    send(world, connection, "plan.k1", "1", "2", "3")
    inbox = open_inbox(connection, queue, prefetch=1, acking=False)
    world.until(lambda: inbox.ids == ["1"])
    connection.requeue(inbox.tags[0])
    inbox.acking = True
    world.until(lambda: len(inbox.ids) == 4)
    assert sorted(inbox.ids) == ["1", "1", "2", "3"]
    assert [each.redelivered for each in inbox.deliveries if each.message_id == "1"] == [False, True]


def test_an_actor_may_give_back_all_it_holds_and_consume_anew(world: World) -> None:
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    inbox = open_inbox(connection, queue, acking=False)
    send(world, connection, "plan.k1", "1", "2", "3")
    world.until(lambda: len(inbox.ids) == 3)
    with pytest.raises(ConfigError, match="already"):
        open_inbox(connection, queue)
    connection.cancel(queue.name)
    for tag in inbox.tags:
        connection.requeue(tag)
    again = open_inbox(connection, queue)
    world.until(lambda: len(again.ids) == 3)
    assert again.ids == ["1", "2", "3"]


def test_only_the_first_live_consumer_receives_from_a_single_active_consumer_queue(world: World) -> None:
    first, queue = connect_with(world, "reducer.r1", world.topology.reducer())
    second, sender = world.connect("reducer.r2"), world.connect("client.c1")
    active = open_inbox(first, queue, prefetch=2, acking=False)
    send(world, first, "control.a", "1", exchange="control")
    world.until(lambda: active.ids == ["1"])
    standby = open_inbox(second, queue)
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
    first, queue = connect_with(world, "reducer.r1", world.topology.reducer())
    second = world.connect("reducer.r2")
    active = open_inbox(first, queue)
    send(world, first, "control.a", "1", exchange="control")
    world.until(lambda: active.ids == ["1"])
    standby = open_inbox(second, queue)
    world.rest()
    first.cancel(queue.name)
    world.rest()
    send(world, first, "control.a", "2", exchange="control")
    world.until(lambda: standby.ids == ["2"])
    assert active.ids == ["1"]


def test_consumers_of_other_queues_share_the_messages(world: World) -> None:
    first, queue = connect_with(world, "records.a", world.topology.records())
    second = world.connect("records.b")
    second.declare(queue)
    inboxes = [open_inbox(each, queue, prefetch=1) for each in (first, second)]
    world.rest()
    send(world, first, "event.s.x", *numbered(1, 20), exchange="event")
    world.until(lambda: sum(len(inbox.ids) for inbox in inboxes) == 20)
    assert sorted(inboxes[0].ids + inboxes[1].ids, key=int) == numbered(1, 20)
    assert all(inbox.ids for inbox in inboxes)


def test_after_a_cancel_nothing_is_delivered_and_the_unsettled_stay_settleable(world: World) -> None:
    connection, queue = connect_with(world, "combiner.k1", world.topology.records())
    other = world.connect("combiner.k2")
    inbox = open_inbox(connection, queue, acking=False)
    send(world, connection, "event.s.x", "1", "2", exchange="event")
    world.until(lambda: len(inbox.ids) == 2)
    connection.cancel(queue.name)
    connection.cancel(queue.name)
    send(world, connection, "event.s.x", "3", exchange="event")
    world.rest()
    assert inbox.ids == ["1", "2"]
    connection.ack([inbox.tags[0]])
    connection.requeue(inbox.tags[1])
    again = open_inbox(other, queue)
    world.until(lambda: len(again.ids) == 2)
    world.rest()
    assert sorted(again.ids) == ["2", "3"]
