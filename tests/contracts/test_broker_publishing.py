"""The broker port: a message reaches the queues that are bound to its address, and is confirmed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from contracts.worlds import Confirms, World, connect_with, message, numbered, open_inbox, send
from fedmq.brokers.base import Outgoing
from fedmq.codec import JSON
from fedmq.errors import FedMQError, NotFound, ProtocolError
from fedmq_schemas.topology import Binding


def test_a_delivery_has_the_published_message_and_its_address(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    inbox = open_inbox(connection, queue)
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
    assert delivery.user == (world.account or "reducer.r1")
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
    binding = Binding(world.topology.exchange("task"), pattern)
    connection, queue = connect_with(world, "reducer.r1", replace(world.topology.client("c1"), bindings=(binding,)))
    inbox = open_inbox(connection, queue)
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
    inbox = open_inbox(connection, queue)
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
        inboxes.append(open_inbox(connection, queue))
    send(world, connection, "event.s1.round", "m1", exchange="event")
    world.until(lambda: all(inbox.ids == ["m1"] for inbox in inboxes))


def test_nothing_is_confirmed_or_delivered_from_within_a_call(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    inbox = open_inbox(connection, queue)
    confirms: Confirms = []
    connection.publish(message(world.topology, "task", "task.c1", "m1"), confirms.append)
    assert confirms == []
    assert inbox.ids == []
    world.until(lambda: confirms == [None] and inbox.ids == ["m1"])


def test_thousands_of_messages_arrive_once_and_in_order(world: World) -> None:
    receiver, queue = connect_with(world, "reducer.r1", world.topology.reducer())
    sender = world.connect("combiner.c1")
    inbox = open_inbox(receiver, queue, prefetch=100)
    world.rest()
    send(world, sender, "update.reducer.c1", *numbered(1, 3000), exchange="update")
    world.until(lambda: len(inbox.ids) == 3000)
    assert inbox.ids == numbered(1, 3000)


def test_a_message_that_no_queue_receives_is_confirmed_unless_it_is_mandatory(world: World) -> None:
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
    other, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    inbox = open_inbox(other, queue)
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


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_a_message_that_amqp_can_not_carry_fails_alone(world: World, is_confirmed: bool) -> None:
    """An id of 200 letters of four bytes ended the process that published it, and then the next one."""
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    inbox = open_inbox(connection, queue)
    confirms: Confirms = []
    send(world, connection, "task.c1", "m1")
    bad = message(world.topology, "task", "task.c1", "\N{PILE OF POO}" * 200)
    connection.publish(bad, confirms.append if is_confirmed else None)
    connection.publish(message(world.topology, "task", "task.c1", "m2"), confirms.append)
    world.until(lambda: inbox.ids == ["m1", "m2"] and None in confirms)
    assert [type(each) for each in confirms if each is not None] == [ProtocolError] * is_confirmed


def test_the_longest_id_that_amqp_can_carry_arrives(world: World) -> None:
    connection, queue = connect_with(world, "reducer.r1", world.topology.client("c1"))
    inbox = open_inbox(connection, queue)
    send(world, connection, "task.c1", "\N{PILE OF POO}" * 63 + "xyz")
    world.until(lambda: [len(each.encode()) for each in inbox.ids] == [255])
