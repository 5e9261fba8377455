"""The broker port: a connection that is lost, closed or killed loses no message."""

from __future__ import annotations

from dataclasses import replace

from contracts.worlds import Confirms, World, connect_with, message, numbered, open_inbox, send
from fedmq.errors import NotFound


def test_a_lost_connection_is_restored_whole(world: World) -> None:
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    sender = world.connect("reducer.r1")
    inbox = open_inbox(connection, queue, prefetch=3, acking=False)
    send(world, connection, "plan.k1", *numbered(1, 4))
    world.until(lambda: len(inbox.ids) == 3)
    reconnects: list[int] = []
    connection.on_reconnect = lambda: reconnects.append(len(inbox.ids))
    world.cut(connection)
    send(world, sender, "plan.k1", "5")
    world.restore(connection)
    world.until(lambda: len(inbox.ids) == 6)
    assert inbox.ids == ["1", "2", "3", "1", "2", "3"]
    assert reconnects == [3], "reported once, before anything is delivered again"
    assert all(each.redelivered for each in inbox.deliveries[3:])
    connection.ack(inbox.tags[:3])
    world.rest()
    assert len(inbox.ids) == 6, "tags of before settle nothing"
    assert len(set(inbox.tags)) == 6
    inbox.acking = True
    connection.ack(inbox.tags[3:])
    world.until(lambda: inbox.ids[6:] == ["4", "5"])


def test_a_connection_reports_whether_the_broker_can_be_reached(world: World) -> None:
    connection = world.connect("combiner.k1")
    world.until(lambda: connection.connected)
    world.cut(connection)
    world.until(lambda: not connection.connected)
    world.restore(connection)
    world.until(lambda: connection.connected)
    assert connection.silent == 0.0
    connection.close()
    assert not connection.connected


def test_messages_that_are_unconfirmed_at_a_loss_are_sent_again_in_order(world: World) -> None:
    receiver, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    connection = world.connect("client.c1")
    inbox = open_inbox(receiver, queue)
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
    connection, queue = connect_with(world, "observer.o1", world.topology.observer("o1"))
    sender = world.connect("reducer.r1")
    inbox = open_inbox(connection, queue)
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
    connection, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    sender = world.connect("reducer.r1")
    inbox = open_inbox(connection, queue)
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
    receiver, queue = connect_with(world, "combiner.k1", world.topology.combiner("k1"))
    connection = world.connect("client.c1")
    inbox = open_inbox(receiver, queue)
    send(world, receiver, "plan.k1", "0")
    confirms: Confirms = []
    for number in numbered(1, 2000):
        connection.publish(message(world.topology, "update", "update.k1.c1", number), confirms.append)
    connection.close()
    world.until(lambda: len(inbox.ids) == 2001)
    world.until(lambda: len(confirms) == 2000)
    assert confirms == [None] * 2000


def test_a_closed_connection_does_nothing_more(world: World) -> None:
    other, queue = connect_with(world, "reducer.r1", world.topology.combiner("k1"))
    connection = world.connect("combiner.k1")
    inbox = open_inbox(connection, queue, acking=False)
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
    again = open_inbox(other, queue)
    world.until(lambda: bool(again.ids))
    world.rest()
    assert again.ids == ["1"]
    assert inbox.ids == ["1"]
