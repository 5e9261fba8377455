"""Measures messages a second on the in-memory broker, and on a private RabbitMQ if this machine has one.

    python benchmarks/broker.py [--messages 20000] [--repeats 5]

Bodies of 500 bytes, one publisher. `publish`: until every message is confirmed. `consume`: each message is acknowledged
by itself, prefetch 500. `one at a time`: publish, confirm, deliver and acknowledge before the next. The floor for RabbitMQ
is pika alone on the same broker, its SelectConnection with at most 1,000 unconfirmed messages. Medians of the repeats.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pika
from pika.adapters.select_connection import SelectConnection

from fedmq.brokers.base import Connection, Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.errors import FedMQError
from fedmq.scheduler import ThreadScheduler, VirtualScheduler
from fedmq_schemas.topology import Queue, Topology

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.servers.rabbitmq import RabbitmqServer, missing

BODY = b"x" * 500
WINDOW = 1_000
PREFETCH = 500
TOPOLOGY = Topology("bench")
KEYS = {"quorum": (TOPOLOGY.combiner("k1"), "plan.k1"), "classic": (TOPOLOGY.client("c1"), "task.c1")}

Until = Callable[[Callable[[], bool]], object]


def rate(count: int, seconds: list[float]) -> str:
    return f"{count / median(seconds):10,.0f}/s {1e6 * median(seconds) / count:8.1f} us"


class Run:
    """Publishes and consumes through one connection; `until` runs the scheduler until a condition holds."""

    def __init__(self, connection: Connection, until: Until, queue: Queue, key: str) -> None:
        self._connection, self._until, self._queue = connection, until, queue
        self._message = Outgoing(TOPOLOGY.exchange("task"), key, BODY, "m")
        self._confirmed = self._received = 0
        connection.declare(queue)

    def _on_confirm(self, error: FedMQError | None) -> None:
        self._confirmed += 1

    def _on_delivery(self, delivery: Delivery) -> None:
        self._received += 1
        self._connection.ack([delivery.tag])

    def publish(self, count: int) -> float:
        start, self._confirmed = time.perf_counter(), 0
        for _ in range(count):
            self._connection.publish(self._message, self._on_confirm)
        self._until(lambda: self._confirmed == count)
        return time.perf_counter() - start

    def consume(self, count: int) -> float:
        start, self._received = time.perf_counter(), 0
        self._connection.consume(self._queue.name, PREFETCH, self._on_delivery)
        self._until(lambda: self._received == count)
        seconds = time.perf_counter() - start
        self._connection.cancel(self._queue.name)
        return seconds

    def one_at_a_time(self, count: int) -> float:
        self._connection.consume(self._queue.name, PREFETCH, self._on_delivery)
        start = time.perf_counter()
        for number in range(count):
            self._connection.publish(self._message, self._on_confirm)
            self._until(lambda number=number: self._received > number and self._confirmed > number)  # type: ignore[misc]
        seconds = time.perf_counter() - start
        self._connection.cancel(self._queue.name)
        return seconds


def report(name: str, count: int, repeats: int, run: Run, few: int) -> None:
    published, consumed = [], []
    run.publish(1)
    run.consume(1)
    for _ in range(repeats):
        published.append(run.publish(count))
        consumed.append(run.consume(count))
    print(f"{name:24} publish       {rate(count, published)}")
    print(f"{name:24} consume       {rate(count, consumed)}")
    run._received = run._confirmed = 0
    print(f"{name:24} one at a time {rate(few, [run.one_at_a_time(few)])}")


def pika_alone(url: str, queue: Queue, key: str, count: int) -> float:
    """Returns the seconds until all messages are published and confirmed, by pika alone."""
    times: list[float] = []
    properties = pika.BasicProperties(content_type="application/msgpack", message_id="m", delivery_mode=2)
    sent = confirmed = 0

    def pump(channel: pika.channel.Channel) -> None:
        nonlocal sent
        while sent < count and sent - confirmed < WINDOW:
            channel.basic_publish(TOPOLOGY.exchange("task"), key, BODY, properties)
            sent += 1

    def on_open(channel: pika.channel.Channel) -> None:
        def on_ack(frame: object) -> None:
            nonlocal confirmed
            method = frame.method  # type: ignore[attr-defined]
            confirmed = max(confirmed, method.delivery_tag) if method.multiple else confirmed + 1
            if confirmed >= count:
                times.append(time.perf_counter())
                connection.close()
            else:
                pump(channel)

        def start(_: object) -> None:
            times.append(time.perf_counter())
            pump(channel)

        channel.confirm_delivery(on_ack, start)

    connection = SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda opened: opened.channel(on_open_callback=on_open),
        on_close_callback=lambda *_: connection.ioloop.stop(),
    )
    connection.ioloop.start()
    return times[1] - times[0]


def in_memory(count: int, repeats: int) -> None:
    scheduler = VirtualScheduler()
    queue, key = KEYS["classic"]
    run = Run(MemoryBroker(scheduler).connect("bench"), lambda condition: scheduler.settle(), queue, key)
    report("memory", count, repeats, run, count)


def on_rabbitmq(count: int, repeats: int) -> None:
    scheduler = ThreadScheduler()

    def until(condition: Callable[[], bool]) -> None:
        def check() -> None:
            if condition():
                scheduler.stop()
            else:
                scheduler.later(0.0002, check)

        scheduler.post(check)
        scheduler.run()

    with tempfile.TemporaryDirectory() as folder:
        server = RabbitmqServer(Path(folder)).start()
        connection = RabbitmqBroker(server.url, scheduler).connect("bench")
        try:
            for kind, (queue, key) in KEYS.items():
                run = Run(connection, until, queue, key)
                report(f"rabbitmq {kind}", count, repeats, run, 500)
                floors = []
                for _ in range(repeats):
                    floors.append(pika_alone(server.url, queue, key, count))
                    run._received = 0
                    run.consume(count)
                print(f"{'pika alone ' + kind:24} publish       {rate(count, floors)}")
        finally:
            connection.close()
            server.remove()
            scheduler.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    in_memory(options.messages, options.repeats)
    if missing() is None:
        on_rabbitmq(options.messages, options.repeats)
    else:
        print(f"rabbitmq left out: {missing()}")


if __name__ == "__main__":
    main()
