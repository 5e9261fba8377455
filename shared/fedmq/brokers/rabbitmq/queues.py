"""Queues and exchanges in RabbitMQ's terms: their declarations, and the subject of a refusal.

Works on 3.10 and 4.x: every queue names its type and is durable or exclusive; no queue mode, version or master locator, no
prefetch per channel, no mirroring.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pika.channel import Channel

from fedmq_schemas.topology import Queue

ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406


def exchanges(queue: Queue) -> set[str]:
    """Returns the exchanges that a queue needs."""
    needed = {*queue.exchanges, *(binding.exchange for binding in queue.bindings)}
    return needed if queue.dead_letter is None else needed | {queue.dead_letter}


def declare(channel: Channel, queue: Queue, known: set[str]) -> None:
    """Declares exchanges, queue and bindings without waiting. RabbitMQ performs them before the channel's later calls.

    The exchanges are added to `known`, those that this channel has declared.
    """
    for exchange in sorted(exchanges(queue) - known):
        channel.exchange_declare(exchange, "topic", durable=True)
        known.add(exchange)
    channel.queue_declare(queue.name, durable=not queue.exclusive, exclusive=queue.exclusive, arguments=queue.arguments)
    for binding in queue.bindings:
        channel.queue_bind(queue.name, binding.exchange, binding.routing_key)


@dataclass(frozen=True, slots=True)
class Subject:
    """The names in RabbitMQ's text about a refusal."""

    queue: str | None
    exchange: str | None
    routing_key: str | None


def subject(text: str) -> Subject:
    """Parses the names in a text such as `NOT_FOUND - no exchange 'a.task' in vhost '/'`."""

    def name(word: str) -> str | None:
        found = re.search(rf"{word} '([^']*)'", text)
        return None if found is None else found[1]

    return Subject(name("queue"), name("exchange"), name("topic"))
