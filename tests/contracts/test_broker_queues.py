"""The broker port: queues are declared, deleted and waited for; they and their messages expire."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from contracts.worlds import Confirms, World, confirm_of, connect_with, message, numbered, open_inbox, send
from fedmq.errors import ConfigError, FedMQError, NotFound


def test_declaring_again_changes_nothing(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.combiner("k1"))
    send(world, connection, "plan.k1", "m1")
    world.connect("combiner.k1").declare(queue)
    connection.declare(queue)
    inbox = open_inbox(connection, queue)
    world.until(lambda: inbox.ids == ["m1"])


def test_declaring_with_other_arguments_is_reported_with_the_remedy(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    other = world.connect("reducer.r2")
    send(world, connection, "task.c1", "m1")
    errors: list[FedMQError] = []
    other.on_error = errors.append
    other.declare(replace(queue, expires=3600.0))
    world.until(lambda: bool(errors))
    assert isinstance(errors[0], ConfigError)
    assert queue.name in errors[0].reason
    assert "delete it" in errors[0].reason
    send(world, other, "task.c1", "m2")
    inbox = open_inbox(connection, queue)
    world.until(lambda: inbox.ids == ["m1", "m2"])
    assert len(errors) == 1


def test_an_error_that_nobody_handles_ends_the_run(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    connection.declare(replace(queue, expires=3600.0))
    with pytest.raises(ConfigError, match=queue.name):
        world.until(lambda: False)


def test_a_queue_is_deleted_with_its_messages_and_declared_again_empty(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    send(world, connection, "task.c1", "m1")
    connection.delete(queue.name)
    connection.delete(queue.name)
    confirms: Confirms = []
    connection.publish(message(world.topology, "task", "task.c1", "m2", mandatory=True), confirms.append)
    world.until(lambda: len(confirms) == 1)
    assert isinstance(confirms[0], NotFound)
    connection.declare(queue)
    send(world, connection, "task.c1", "m3")
    inbox = open_inbox(connection, queue)
    world.until(lambda: inbox.ids == ["m3"])


def test_a_consumer_waits_for_its_queue_and_again_after_a_deletion(world: World) -> None:
    client, reducer = world.connect("client.c1"), world.connect("reducer.r1")
    queue = world.topology.client("c1")
    inbox = open_inbox(client, queue)
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
    connection, queue = connect_with(world, "reducer.r1", world.topology.combiner("k1"))
    dead = world.topology.dead()
    connection.declare(dead)
    soon = replace(message(world.topology, "task", "plan.k1", "m1"), expiration=0.2)
    confirms: Confirms = []
    connection.publish(soon, confirms.append)
    connection.publish(replace(soon, message_id="m2", expiration=60.0), confirms.append)
    world.until(lambda: len(confirms) == 2)
    world.rest(0.5)
    inbox, letters = open_inbox(connection, queue), open_inbox(connection, dead)
    world.until(lambda: bool(inbox.ids))
    world.rest()
    assert inbox.ids == ["m2"]
    assert letters.ids == []


def test_an_unused_queue_expires_and_a_used_one_does_not(world: World) -> None:
    connection = world.connect("reducer.r1")
    used, unused = (replace(world.topology.client(name), expires=0.5) for name in ("used", "unused"))
    connection.declare(used)
    connection.declare(unused)
    inbox = open_inbox(connection, used)
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
    connection, queue = connect_with(world, "observer.o1", replace(world.topology.observer("o1"), max_length=3))
    send(world, connection, "event.s1.round", *numbered(1, 5), exchange="event")
    inbox = open_inbox(connection, queue)
    world.until(lambda: len(inbox.ids) == 3)
    assert inbox.ids == ["3", "4", "5"]


def test_a_queue_with_too_many_bytes_drops_its_oldest(world: World) -> None:
    connection, queue = connect_with(world, "observer.o1", replace(world.topology.observer("o1"), max_bytes=12))
    send(world, connection, "event.s1.round", *numbered(1, 5), exchange="event")
    inbox = open_inbox(connection, queue)
    world.until(lambda: len(inbox.ids) == 3)
    world.rest()
    assert inbox.ids == ["3", "4", "5"]


def test_an_exclusive_queue_is_deleted_with_its_connection(world: World) -> None:
    observer, other = world.connect("observer.o1"), world.connect("reducer.r1")
    observer.declare(world.topology.observer("o1"))
    send(world, observer, "event.s1.round", "m1", exchange="event")
    observer.close()
    assert isinstance(confirm_of(world, other, "event", "event.s1.x"), NotFound)
