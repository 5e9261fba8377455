"""The broker port: what is left in a queue of the version before is received, and the queue is deleted."""

from __future__ import annotations

import pytest

from contracts.worlds import Inbox, World, confirm_of, connect_with, message, numbered, open_inbox, send
from fedmq.brokers.base import Connection, dead_headers
from fedmq.errors import NotFound
from fedmq_schemas.topology import Queue


def before(queue: Queue) -> Queue:
    """The queue in its place in the version before."""
    assert queue.replaces is not None
    return queue.replaces


def retire(connection: Connection, queue: Queue, acking: bool = True) -> Inbox:
    inbox = Inbox(connection, acking)
    connection.retire(before(queue), 0, inbox)
    return inbox


@pytest.mark.parametrize("kind", ["combiner", "dead"])
def test_what_waits_in_the_queue_of_the_version_before_is_received_and_the_queue_deleted(
    world: World, kind: str
) -> None:
    queue = world.topology.combiner("k1") if kind == "combiner" else world.topology.dead()
    exchange, key = ("task", "plan.k1") if kind == "combiner" else ("dead", "a.b")
    old, _ = connect_with(world, "combiner.old", before(queue))
    send(world, old, key, *numbered(1, 300), exchange=exchange)
    old.close()
    new, _ = connect_with(world, "combiner.new", queue)
    left, inbox = retire(new, queue), open_inbox(new, queue)
    world.until(lambda: sorted(left.ids, key=int) == numbered(1, 300))
    world.until(lambda: not world.exists(before(queue).name))
    send(world, new, key, "after", exchange=exchange)
    world.until(lambda: inbox.ids == ["after"])
    assert len(left.ids) == 300


def test_nothing_new_reaches_a_queue_that_is_retired_while_its_last_message_is_at_work(world: World) -> None:
    queue = world.topology.combiner("k1")
    old, _ = connect_with(world, "combiner.old", before(queue))
    send(world, old, "plan.k1", "m1")
    new, _ = connect_with(world, "combiner.new", queue)
    left, inbox = retire(new, queue, acking=False), open_inbox(new, queue)
    world.until(lambda: left.ids == ["m1"])
    send(world, old, "plan.k1", "m2")
    world.until(lambda: inbox.ids == ["m2"])
    world.rest(2.5)
    assert left.ids == ["m1"]
    assert world.exists(before(queue).name), "its message is not settled"
    world.cut(new)
    world.restore(new)
    world.until(lambda: left.ids == ["m1", "m1"])
    new.ack([left.tags[-1]])
    world.until(lambda: not world.exists(before(queue).name))


def test_two_servers_retire_a_queue_at_once_and_each_message_is_handled_once(world: World) -> None:
    queue = world.topology.dead()
    old, _ = connect_with(world, "reducer.old", before(queue))
    send(world, old, "a.b", *numbered(1, 200), exchange="dead")
    both = [connect_with(world, f"reducer.r{number}", queue)[0] for number in (1, 2)]
    left = [retire(connection, queue) for connection in both]
    world.until(lambda: sum(len(inbox.ids) for inbox in left) == 200)
    world.until(lambda: not world.exists(before(queue).name))
    assert sorted((name for inbox in left for name in inbox.ids), key=int) == numbered(1, 200)


def test_a_queue_that_does_not_exist_is_retired_by_nothing(world: World) -> None:
    queue = world.topology.combiner("k1")
    new, _ = connect_with(world, "combiner.new", queue)
    left = retire(new, queue)
    send(world, new, "plan.k1", "m1")
    inbox = open_inbox(new, queue)
    world.until(lambda: inbox.ids == ["m1"])
    world.rest()
    assert left.ids == []
    assert not world.exists(before(queue).name)
    new.delete(queue.name)
    assert isinstance(confirm_of(world, new, "task", "plan.k1"), NotFound)


def test_a_dead_letter_that_is_moved_keeps_its_reason_and_address(world: World) -> None:
    queue, inbox = world.topology.dead(), world.topology.combiner("k1")
    old, _ = connect_with(world, "combiner.old", before(queue))
    old.declare(inbox)
    held = open_inbox(old, inbox, acking=False)
    send(world, old, "plan.k1", "m1")
    world.until(lambda: held.ids == ["m1"])
    old.reject(held.tags[0], "kind 'nonsense' is unknown")
    world.rest()
    new, _ = connect_with(world, "reducer.new", queue)
    new.retire(before(queue), 50, lambda letter: new.reject(letter.tag, "moved"))
    letters = open_inbox(new, queue)
    world.until(lambda: letters.ids == ["m1"])
    letter = letters.deliveries[0]
    user = held.deliveries[0].user
    assert letter.routing_key == inbox.name
    wanted = dead_headers("kind 'nonsense' is unknown", world.topology.exchange("task"), "plan.k1", user)
    assert wanted.items() <= letter.headers.items()
    world.until(lambda: not world.exists(before(queue).name))
    assert message(world.topology, "task", "plan.k1", "m1").body == letter.body
