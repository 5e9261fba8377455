"""RabbitMQ's queues have the arguments that the AsyncAPI document states, so a program may declare them as documented."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest
import yaml

from contracts.worlds import RabbitmqWorld
from fedmq_schemas import generate
from support.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.system


def documented(alliance: str) -> list[dict[str, Any]]:
    """Returns the inboxes of the document, with names in place of its parameters."""
    text = (Path(generate.FOLDER) / "asyncapi.yaml").read_text(encoding="utf-8")
    for parameter, name in {"alliance": alliance, "combiner": "k1", "client": "c1", "observer": "o1"}.items():
        text = text.replace(f"{{{parameter}}}", name)
    channels: dict[str, dict[str, Any]] = yaml.safe_load(text)["channels"]
    return [channel for name, channel in channels.items() if name.startswith("inbox_")]


def is_there(server: RabbitmqServer, queue: str) -> bool:
    found = {each["name"]: each for each in server.manage("GET", "queues/%2F")}
    return "arguments" in found.get(queue, {})


def test_a_queue_that_is_declared_as_documented_is_the_one_that_fedmq_declares(
    rabbitmq_world: RabbitmqWorld, rabbitmq: RabbitmqServer
) -> None:
    topology, inboxes = rabbitmq_world.topology, documented(rabbitmq_world.topology.alliance)
    connection = rabbitmq_world.connect("reducer.r1")
    for queue in (
        *(topology.reducer(), topology.combiner("k1"), topology.client("c1")),
        *(topology.records(), topology.observer("o1"), topology.dead()),
    ):
        connection.declare(queue)
    for inbox in inboxes:
        path = f"queues/%2F/{quote(inbox['address'])}"
        rabbitmq_world.until(partial(is_there, rabbitmq, inbox["address"]))
        live, stated = rabbitmq.manage("GET", path), inbox["bindings"]["amqp"]["queue"]
        assert live["arguments"] == inbox["x-arguments"], inbox["address"]
        assert (live["durable"], live["exclusive"]) == (stated["durable"], stated["exclusive"])

    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as other:
        channel = other.channel()
        for inbox in inboxes:
            stated = inbox["bindings"]["amqp"]["queue"]
            if not stated["exclusive"]:  # else it is the other connection's alone
                channel.queue_declare(inbox["address"], durable=stated["durable"], arguments=inbox["x-arguments"])
            for bound in inbox["x-bound-to"]:
                channel.exchange_declare(bound["exchange"], "topic", durable=True)
