"""A server that is not there is reported with what happened, and never with an account or a URL."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest

from fedmq.blobs.s3 import S3Blobs
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.errors import Transient
from fedmq.records import mongo
from fedmq.scheduler import ThreadScheduler


@pytest.fixture
def nothing() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_broker_that_is_not_there(nothing: int, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = ThreadScheduler(1)
    runner = threading.Thread(target=scheduler.run)
    runner.start()
    connection = RabbitmqBroker(f"amqp://someone:secret@127.0.0.1:{nothing}/", scheduler).connect("test")
    try:
        with caplog.at_level(logging.WARNING, "fedmq.brokers.rabbitmq.broker"):
            deadline = time.monotonic() + 10
            while not caplog.messages and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        connection.kill()
        scheduler.stop()
        runner.join()
        scheduler.close()
    assert caplog.messages[0].startswith(f"no connection to RabbitMQ at 127.0.0.1:{nothing}, trying again: ")
    assert "Connection refused" in caplog.messages[0]
    assert "secret" not in caplog.text


def test_a_record_store_that_is_not_there(nothing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo, "SELECTION_SECONDS", 0.2)
    records = mongo.MongoRecords("127.0.0.1", nothing, "fedmq", user="someone", password="secret")
    with pytest.raises(Transient) as raised:
        records.get("sessions", "s")
    records.close()
    assert "is not reachable: " in raised.value.reason and "Connection refused" in raised.value.reason
    assert "secret" not in raised.value.reason and "Topology" not in raised.value.reason


def test_a_blob_store_that_is_not_there(nothing: int) -> None:
    with pytest.raises(Transient) as raised:
        S3Blobs(f"127.0.0.1:{nothing}", "someone", "secret").get("models/seed")
    assert raised.value.reason == f"the S3 server at 127.0.0.1:{nothing} accepts no connection"
