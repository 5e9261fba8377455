"""The written contract is the code's: generated documents, and what a real alliance sends, agree with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import msgpack
import pytest
import yaml

from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.connection import MemoryConnection
from fedmq.brokers.memory.topics import TopicTable
from fedmq_sandbox import Sandbox
from fedmq_sandbox.seed import EVALUATOR
from fedmq_schemas import generate, messages, properties, topology
from fedmq_schemas.messages import BODIES
from fedmq_schemas.records import EVENT_NAMES
from fedmq_schemas.routes import ROLES, ROUTES, Route
from fedmq_schemas.topology import EXCHANGES, Topology, client_permissions

REGRESSION = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
ALLIANCE = Topology("sandbox")
CLIENTS = ("client1", "client2", "client3", EVALUATOR)
NEVER_IN_A_QUIET_RUN = {
    "forget",
    "forget_session",
    "inquiry",
    "about",
    "stop",
    "wait",
    "decline",
    "progress",
    "events",
    "update_outcome",
    "duplicate_client",
}
"""Kinds that a session without trouble need not send."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through the broker: messages with who sent them, and deliveries with who got them."""

    sent: tuple[tuple[str, Outgoing], ...]
    received: tuple[tuple[str, Delivery], ...]
    confirmed: frozenset[str]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """All messages of one whole session, as bytes on the broker."""
    sent: list[tuple[str, Outgoing]] = []
    received: list[tuple[str, Delivery]] = []
    confirmed: set[str] = set()
    publish: Callable[..., None] = MemoryConnection.publish
    consume: Callable[..., None] = MemoryConnection.consume

    def spy_publish(self: MemoryConnection, message: Outgoing, on_confirm: Any = None) -> None:
        sent.append((self.name, message))
        if on_confirm is not None:
            confirmed.add(_document(message)["kind"])
        publish(self, message, on_confirm)

    def spy_consume(self: MemoryConnection, name: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        def deliver(delivery: Delivery) -> None:
            received.append((self.name, delivery))
            on_delivery(delivery)

        consume(self, name, prefetch, deliver)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryConnection, "publish", spy_publish)
        patch.setattr(MemoryConnection, "consume", spy_consume)
        with Sandbox(REGRESSION, clients=3, combiners=2, workers=0, rounds=2, random_seed=1) as sandbox:
            assert sandbox.run()["state"] == "finished"
    return Traffic(tuple(sent), tuple(received), frozenset(confirmed))


def _document(message: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = msgpack.unpackb(message.body)
    return found


def _role(name: str) -> str:
    """The role of a connection of the sandbox."""
    if name in CLIENTS:
        return "client"
    return "combiner" if name.startswith("combiner") else {"sandbox": "starter"}.get(name, name)


def _routes(kind: str, sender: str, message: Outgoing) -> list[Route]:
    return [
        route
        for route in ROUTES
        if (route.kind, route.sender) == (kind, sender)
        and ALLIANCE.exchange(route.exchange) == message.exchange
        and route.matches(message.routing_key)
    ]


def _example(key: str) -> str:
    """A routing key of an address."""
    values = {"client": "client1", "combiner": "combiner1", "session": "s1", "name": "round.committed"}
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], key)


# -- the documents are the code's ---------------------------------------------------------------------------------------


def test_the_files_are_what_the_code_generates() -> None:
    texts = generate.documents()
    there = {path.relative_to(generate.FOLDER).as_posix() for path in (generate.FOLDER / "json").glob("*")}
    assert there | {"asyncapi.yaml", "ledger.json"} == texts.keys()
    stale = [name for name, text in texts.items() if (generate.FOLDER / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run: python -m fedmq_schemas.generate"


def test_writing_removes_the_schema_of_a_message_that_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "gone.json").write_text("{}")
    assert len(list(generate.write(tmp_path))) == len(BODIES) + 2
    assert not (tmp_path / "json" / "gone.json").exists()


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_every_schema_is_a_sound_schema_that_says_what_the_message_is_for(kind: str) -> None:
    schema = json.loads((generate.FOLDER / "json" / f"{kind}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert len(schema["description"]) > 20
    assert schema["properties"]["kind"]["const"] == kind


# -- AsyncAPI -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((generate.FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_reference_of_the_asyncapi_document_leads_somewhere(asyncapi: dict[str, Any]) -> None:
    found = list(_references(asyncapi))
    assert len(found) > 50
    for reference in found:
        file, _, pointer = reference.partition("#/")
        if file:
            assert (generate.FOLDER / file).is_file(), reference
            continue
        node: Any = asyncapi
        for step in pointer.split("/"):
            assert step in node, reference
            node = node[step]


def test_the_asyncapi_document_has_the_parts_that_version_3_asks_for(asyncapi: dict[str, Any]) -> None:
    assert asyncapi["asyncapi"].startswith("3.")
    assert asyncapi["info"].keys() >= {"title", "version"}
    assert all(server.keys() >= {"host", "protocol"} for server in asyncapi["servers"].values())
    for name, channel in asyncapi["channels"].items():
        parameters = set(re.findall(r"\{(\w+)\}", channel["address"])) - {"alliance"}
        if name.startswith("inbox_"):
            assert channel["bindings"]["amqp"]["is"] == "queue"
        else:
            assert parameters == set(channel.get("parameters", {})), name
            assert channel["messages"], name
            assert channel["bindings"]["amqp"]["exchange"]["name"].removeprefix("{alliance}.") in EXCHANGES
    for operation in asyncapi["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
        if "reply" in operation:
            channel = operation["reply"]["channel"]["$ref"]
            assert all(message["$ref"].startswith(channel) for message in operation["reply"]["messages"])


def test_messages_are_confirmed_and_persistent_as_the_asyncapi_document_states(
    asyncapi: dict[str, Any], traffic: Traffic
) -> None:
    seen = {_document(message)["kind"] for _, message in traffic.sent}
    assert not properties.UNCONFIRMED & traffic.confirmed
    assert {"client_hello", "update", "validation", "task", "plan", "partial"} <= traffic.confirmed
    assert seen - properties.UNCONFIRMED - traffic.confirmed <= properties.SOMETIMES_CONFIRMED
    modes = {
        operation["messages"][0]["$ref"].rpartition("/")[2]: operation["bindings"]["amqp"].get("deliveryMode")
        for operation in asyncapi["operations"].values()
    }
    assert {kind for kind, mode in modes.items() if mode == 1} == properties.UNCONFIRMED


# -- what is stated of messages is true of real ones ----------------------------------------------------------------------


def test_every_message_of_a_real_session_is_valid_by_its_schema(traffic: Traffic) -> None:
    validators = {
        kind: jsonschema.Draft202012Validator(generate.message_schema(kind), format_checker=None) for kind in BODIES
    }
    seen = set()
    for _, message in traffic.sent:
        document = _document(message)
        validators[document["kind"]].validate(document)
        seen.add(document["kind"])
    assert seen >= BODIES.keys() - NEVER_IN_A_QUIET_RUN - {"void_plan", "cancel"}


def test_a_schema_refuses_what_the_code_refuses(traffic: Traffic) -> None:
    message = next(message for _, message in traffic.sent if _document(message)["kind"] == "update")
    validator = jsonschema.Draft202012Validator(generate.message_schema("update"))
    for path, value in ((("weight",), 0), (("blob", "sha256"), "x"), (("plan", "round"), -1), (("encoding",), "zip")):
        document = _document(message)
        node = document["body"]
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value
        assert not validator.is_valid(document), path
        with pytest.raises(ValueError, match=path[-1]):
            messages.Update.model_validate(document["body"])


def test_every_message_of_a_real_session_goes_a_way_that_is_told(traffic: Traffic) -> None:
    gone = set()
    for sender, message in traffic.sent:
        kind = _document(message)["kind"]
        found = _routes(kind, _role(sender), message)
        assert len(found) == 1, (sender, kind, message.routing_key)
        gone.add(found[0].kind)
    assert len(gone) >= 14


def test_every_event_of_a_real_session_has_a_known_name(traffic: Traffic) -> None:
    bodies = [_document(message)["body"] for _, message in traffic.sent if message.exchange == "sandbox.event"]
    names = {event["name"] for body in bodies for event in body.get("events", [body])}
    assert "round.committed" in names
    assert names <= EVENT_NAMES.keys()


def test_the_data_of_every_event_of_a_real_session_is_documented(traffic: Traffic) -> None:
    bodies = [_document(message)["body"] for _, message in traffic.sent if message.exchange == "sandbox.event"]
    undocumented = {
        f"{event['name']}: data.{key}"
        for body in bodies
        for event in body.get("events", [body])
        for key in event["data"]
        if not re.search(rf"\bdata\.{key}\b", EVENT_NAMES[event["name"]])
    }
    assert undocumented == set()


def test_the_cause_of_a_message_is_the_id_of_an_earlier_one(traffic: Traffic) -> None:
    ids: set[str] = set()
    causes: set[str] = set()
    for _, message in traffic.sent:
        document = _document(message)
        ids.add(document["id"])
        if document["cause"] is not None:
            assert document["cause"] in ids, document["kind"]
            causes.add(document["kind"])
    assert {"plan", "task"} & causes


def test_a_grant_expires_after_a_minute_and_a_task_at_its_deadline(traffic: Traffic) -> None:
    sent = [(_document(message), message.expiration) for _, message in traffic.sent]
    assert {expiration for document, expiration in sent if document["kind"] == "grant"} == {60.0}
    tasks = [(document["body"]["timeout"], expiration) for document, expiration in sent if document["kind"] == "task"]
    assert tasks and all(timeout == expiration for timeout, expiration in tasks)
    assert {expiration for document, expiration in sent if document["kind"] in ("update", "validation")} == {None}


# -- inboxes and permissions --------------------------------------------------------------------------------------------


def test_every_inbox_is_bound_to_what_is_sent_to_it_and_to_nothing_else() -> None:
    queues = {
        "reducer": ALLIANCE.reducer(),
        "combiner": ALLIANCE.combiner("combiner1"),
        "client": ALLIANCE.client("client1"),
        "records": ALLIANCE.records(),
    }
    tables: dict[str, TopicTable[str]] = {}
    for role, queue in queues.items():
        for bound in queue.bindings:
            tables.setdefault(bound.exchange, TopicTable()).bind(bound.routing_key, role)
    for route in ROUTES:
        assert tables[ALLIANCE.exchange(route.exchange)].match(_example(route.key)) == (route.receiver,), route
    for role, queue in queues.items():
        used = {(ALLIANCE.exchange(way.exchange), _example(way.key)) for way in ROUTES if way.receiver == role}
        for bound in queue.bindings:
            table: TopicTable[bool] = TopicTable()
            table.bind(bound.routing_key, True)
            assert any(table.match(key) for exchange, key in used if exchange == bound.exchange), bound


def test_every_delivery_of_a_real_session_is_to_the_receiver_that_is_told(traffic: Traffic) -> None:
    receivers = {str(role): {route.kind for route in ROUTES if route.receiver == role} for role in ROLES}
    for name, delivery in traffic.received:
        role = {"recorder": "records", "observer": "records"}.get(name, _role(name))
        assert msgpack.unpackb(delivery.body)["kind"] in receivers[role]
    assert {_role(name) for name, _ in traffic.received} >= {"reducer", "combiner", "client"}


def test_a_client_may_send_what_it_sends_and_as_nobody_else(traffic: Traffic) -> None:
    mine = [(sender, message) for sender, message in traffic.sent if sender in CLIENTS]
    assert len(mine) > 20
    for sender, message in mine:
        allowed = client_permissions(ALLIANCE, sender)
        assert re.match(allowed.write, message.exchange)
        assert re.match(allowed.topic_write[message.exchange], message.routing_key)
        assert _document(message)["sender"] == sender
        if message.exchange != ALLIANCE.exchange("event"):
            other = client_permissions(ALLIANCE, "client9")
            assert not re.match(other.topic_write[message.exchange], message.routing_key)


def test_a_client_may_read_its_own_mailbox_only(traffic: Traffic) -> None:
    for name, delivery in traffic.received:
        if name in CLIENTS:
            assert re.match(client_permissions(ALLIANCE, name).read, delivery.queue)
    others = [ALLIANCE.reducer(), ALLIANCE.combiner("client1"), ALLIANCE.client("client12"), ALLIANCE.records()]
    allowed = client_permissions(ALLIANCE, "client1")
    assert not any(re.match(allowed.read, queue.name) for queue in others)
    assert not re.match(allowed.configure, ALLIANCE.client("client1").name)
    assert not any(re.match(allowed.write, ALLIANCE.exchange(name)) for name in ("task", "control", "dead"))
    assert not re.match(allowed.topic_write[ALLIANCE.exchange("assignment")], topology.assignment_key("client1"))
