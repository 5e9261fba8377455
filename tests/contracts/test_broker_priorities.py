"""What a `priority` does on a real RabbitMQ, and that a client gains nothing by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pika
import pytest

from contracts.worlds import Inbox, RabbitmqWorld, open_inbox
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.codec import MSGPACK
from fedmq.runtime.turns import PRIORITY, FairTurns
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system

HOSTILE, HONEST = "c-hostile", "c-honest"


@pytest.fixture
def url_of(rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer) -> Iterator[Callable[[str], str]]:
    """Creates an account, and returns the URL with it."""
    accounts = RabbitmqAccounts(Management(rabbitmq.url, rabbitmq.management_url), rabbitmq_world.topology)
    yield lambda name: f"amqp://{name}:{accounts.add(name)}@127.0.0.1:{rabbitmq.port}/"
    for name in accounts.names():
        accounts.revoke(name)


def publish(world: RabbitmqWorld, url: str, client: str, count: int, priority: int | None) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(count):
            properties = pika.BasicProperties(
                MSGPACK, user_id=client, message_id=f"{client}{number}", priority=priority, delivery_mode=2
            )
            channel.basic_publish(world.topology.exchange("update"), f"update.reducer.{client}", b"", properties)


def test_rabbitmq_4_delivers_two_messages_of_high_priority_for_each_other_one_and_rabbitmq_3_none_first(
    rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer, url_of: Callable[[str], str]
) -> None:
    """So even a flood of high priority leaves a third of the deliveries to others. A priority up to 4 changes nothing."""
    world, queue = rabbitmq_world, rabbitmq_world.topology.reducer()
    server_side = world.connect("reducer.r1")
    server_side.declare(queue)
    world.until(lambda: world.exists(queue.name))
    publish(world, url_of(HONEST), HONEST, 10, None)
    publish(world, url_of(HOSTILE), HOSTILE, 30, 9)
    inbox = open_inbox(server_side, queue, prefetch=1)
    world.until(lambda: len(inbox.ids) == 40)
    order = [each.user for each in inbox.deliveries]
    assert {(each.user, each.priority) for each in inbox.deliveries} == {(HONEST, 0), (HOSTILE, 9)}
    if rabbitmq.manage("GET", "overview")["rabbitmq_version"].startswith("3."):
        assert order == [HONEST] * 10 + [HOSTILE] * 30
    else:
        assert order[0] == HOSTILE
        assert order[:30].count(HONEST) == 10, "two of high priority, then one other"


def test_a_message_with_a_priority_is_a_dead_letter_and_others_are_handled_in_their_order(
    rabbitmq_world: RabbitmqWorld, url_of: Callable[[str], str]
) -> None:
    world, queue = rabbitmq_world, rabbitmq_world.topology.reducer()
    server_side = world.connect("reducer.r1")
    for each in (queue, world.topology.dead()):
        server_side.declare(each)
    world.until(lambda: world.exists(queue.name) and world.exists(world.topology.dead().name))
    publish(world, url_of(HONEST), HONEST, 10, None)
    publish(world, url_of(HOSTILE), HOSTILE, 30, 9)
    handled, letters = Inbox(server_side), Inbox(server_side)
    turns = FairTurns(
        world.scheduler,
        servers=frozenset({"guest"}),
        prefetch=2000,
        receive=handled,
        refuse=lambda delivery, reason: server_side.reject(delivery.tag, reason),
        drop=lambda delivery: server_side.ack([delivery.tag]),
        report=lambda sender, reason: None,
    )
    server_side.consume(queue.name, 2000, turns.put)
    server_side.consume(world.topology.dead().name, 0, letters)
    world.until(lambda: len(handled.ids) == 10 and len(letters.ids) == 30)
    assert handled.ids == [f"{HONEST}{number}" for number in range(10)]
    assert {each.headers["x-fedmq-reason"] for each in letters.deliveries} == {PRIORITY}
