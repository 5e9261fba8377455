"""`fedmq doctor` as a process, and in this one, where a part of the world can be replaced."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pika
import pytest

from fedmq_cli.doctor.examination import examine, settings_of
from fedmq_cli.doctor.findings import Finding
from fedmq_schemas.topology import EXCHANGES, Topology
from support.servers.rabbitmq import RabbitmqServer
from support.waiting import SECONDS
from system.node import COMMAND


def doctor(environment: dict[str, str], role: str = "reducer", code: int = 0) -> dict[str, tuple[str, str]]:
    """What was found by what was looked at: verdict and text."""
    found = subprocess.run(
        [COMMAND, "doctor", role, "--json"], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert found.returncode == code, found.stdout + found.stderr
    return {each["what"]: (each["verdict"], each["text"]) for each in json.loads(found.stdout)}


def examined(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, what: str, role: str = "reducer") -> Finding:
    """What is found of one thing, in this process."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    [found] = [each for each in examine(settings_of(role)) if each.what == what]
    return found


@contextmanager
def consuming(rabbitmq: RabbitmqServer, *queues: str, alliance: str) -> Iterator[None]:
    """The alliance's exchanges, and these queues with a consumer each, as its roles would have made them."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    channel = connection.channel()
    exchanges = [Topology(alliance).exchange(name) for name in EXCHANGES]
    try:
        for exchange in exchanges:
            channel.exchange_declare(exchange, "topic", durable=True)
        for queue in queues:
            channel.queue_declare(queue)
            channel.basic_consume(queue, lambda *_: None)
        yield
    finally:
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)
        connection.close()
