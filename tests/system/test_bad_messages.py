"""500 bad messages at every inbox during a session: each ends with a reason, and the session ends with the same model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from fedmq.codec import JSON, MSGPACK
from fedmq_schemas import records as tables
from fedmq_schemas.messages import MAX_BODY
from fedmq_schemas.topology import Topology
from system.conftest import FAULT_POLICY
from system.deployment import Deployment

pytestmark = pytest.mark.system

SESSION = "pestered"
BAD = 500
REPLAYED = 50

INBOXES = (
    ("control", "control.start"),
    ("assignment", "assignment.reducer.client-1"),
    ("update", "update.reducer.combiner-1"),
    ("task", "plan.combiner-1"),
    ("update", "update.combiner-2.client-3"),
    ("task", "task.client-2"),
    ("assignment", "assignment.client-5"),
    ("event", "event.-.client.joined"),
)
"""Exchange and routing key: the reducer's inbox by three ways, a combiner's and a client's by two, the records'."""


class Bad(NamedTuple):
    exchange: str
    key: str
    id: str
    body: bytes
    content_type: str = MSGPACK


def test_500_bad_messages_all_end_with_a_reason_and_disturb_nothing(alliance: Deployment, undisturbed: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(alliance.servers.rabbitmq.url))
    channel = connection.channel()
    seen = listen(channel, alliance.alliance)
    faults = alliance.records.count(tables.EVENTS, {"name": "actor.error"})
    alliance.start_session(SESSION, **FAULT_POLICY)
    alliance.await_round(SESSION, 1)
    bad = [*made_up(alliance.alliance), *replayed(channel, seen)]
    assert len(bad) == BAD
    random.Random(1).shuffle(bad)
    for message in bad:
        properties = pika.BasicProperties(content_type=message.content_type, message_id=message.id)
        channel.basic_publish(f"{alliance.alliance}.{message.exchange}", message.key, message.body, properties)

    assert alliance.await_end(SESSION)["state"] == "finished"
    alliance.check_ledgers(SESSION, rounds=FAULT_POLICY["rounds"])
    assert alliance.final_sha256(SESSION) == undisturbed
    missing = {message.id for message in bad}

    def all_accounted_for() -> bool:
        missing.difference_update(dead_letters(channel, Topology(alliance.alliance).dead().name))
        missing.difference_update(
            event["cause"]
            for event in alliance.records.find(tables.EVENTS, {"name": ["update.discarded", "plan.voided"]})
            if event["data"].get("reason")
        )
        return not missing

    try:
        alliance.until(all_accounted_for, "reason for every bad message")
    except AssertionError:
        pytest.fail(f"no reason for {[message for message in bad if message.id in missing][:5]}")
    assert alliance.records.count(tables.EVENTS, {"name": "actor.error"}) == faults
    connection.close()


def made_up(alliance: str) -> Iterator[Bad]:
    """Malformed and oversize bodies, another alliance's messages, and updates and partials of other rounds."""
    source = random.Random(2)
    for number in range(BAD - REPLAYED):
        exchange, key = INBOXES[number % len(INBOXES)]
        message_id = f"bad-{number}"
        if number // len(INBOXES) % 5 == 4:
            yield wrong_round(source, alliance, message_id)
            continue
        body, content_type = [malformed, oversize, other_alliance, untrue][number // len(INBOXES) % 4](source)
        yield Bad(exchange, key, message_id, body, content_type)


def malformed(source: random.Random) -> tuple[bytes, str]:
    whole = msgpack.packb({"kind": "client_hello", "body": {}})
    return source.choice(
        [
            (source.randbytes(source.randrange(1, 200)) + b"\xc1", MSGPACK),
            (b"", MSGPACK),
            (whole[:-2], MSGPACK),
            (msgpack.packb([1, 2, 3]), MSGPACK),
            (msgpack.packb({1: 2}), MSGPACK),
            (b"{", JSON),
            (b"[" * 5000, JSON),
            (b"null", JSON),
            (b"\xff\xfe", JSON),
        ]
    )


def oversize(source: random.Random) -> tuple[bytes, str]:
    return b"{" + b" " * (MAX_BODY + source.randrange(1, 10_000)) + b"}", JSON


def other_alliance(source: random.Random) -> tuple[bytes, str]:
    kind = source.choice(["client_hello", "combiner_hello", "start", "attach"])
    return json.dumps({"kind": kind, "alliance": "another", "sender": "client-1", "body": {}}).encode(), JSON


def untrue(source: random.Random) -> tuple[bytes, str]:
    """Unknown kinds and versions, and bodies that do not validate."""
    document = source.choice(
        [
            {"kind": "conquer", "body": {}},
            {"kind": "client_hello", "version": 99, "body": {}},
            {"kind": "update", "body": {"plan": "the best"}},
            {"kind": "task", "body": {"client": "../../etc/passwd"}},
            {"kind": "start", "body": {"policy": {"rounds": -1}}},
            {"kind": "grant", "body": {"combiner": "a b", "ordinal": -5}},
        ]
    )
    return json.dumps(document).encode(), JSON


def wrong_round(source: random.Random, alliance: str, message_id: str) -> Bad:
    """A valid answer to a plan that is not open: of another round, or of another session."""
    plan = {
        "session": source.choice([SESSION, "no-such-session"]),
        "round": source.randrange(50, 99),
        "attempt": 1,
        "part": 0,
        "action": "train",
    }
    blob = {"key": "updates/none/000001/client-3-x", "size": 10, "sha256": "0" * 64}
    if source.random() < 0.5:
        sender, kind, key = "client-3", "update", "update.combiner-2.client-3"
        body: dict[str, Any] = {"plan": plan, "model": "models/none", "blob": blob, "weight": 5}
    else:
        sender, kind, key = "combiner-1", "partial", "update.reducer.combiner-1"
        body = {"plan": plan, "epoch": 1, "sum": None, "ledger": blob, "total_weight": 0, "counts": {}}
    envelope = {"kind": kind, "id": message_id, "alliance": alliance, "sender": sender, "sent_at": 0.0, "body": body}
    return Bad("update", key, message_id, msgpack.packb(envelope))


def listen(channel: BlockingChannel, alliance: str) -> str:
    """A queue of our own that gets a copy of every answer."""
    name = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(name, f"{alliance}.update", "update.#")
    return str(name)


def replayed(channel: BlockingChannel, seen: str) -> list[Bad]:
    """Updates of the session, sent again as they were, again and again."""
    updates = []
    for method, properties, body in channel.consume(seen, auto_ack=True, inactivity_timeout=5):
        if method is None or properties is None or body is None:
            break
        if msgpack.unpackb(body)["kind"] == "update":
            updates.append(Bad("update", str(method.routing_key), str(properties.message_id), body))
        if len(updates) == 6:
            break
    channel.cancel()
    assert updates
    return [updates[number % len(updates)] for number in range(REPLAYED)]


def dead_letters(channel: BlockingChannel, queue: str) -> Iterator[str]:
    """The ids of what is in the queue of dead letters and tells why."""
    while True:
        method, properties, _ = channel.basic_get(queue, auto_ack=True)
        if method is None or properties is None:
            return
        if (properties.headers or {}).get("x-fedmq-reason"):
            yield str(properties.message_id)
