"""What the AsyncAPI document states of queues, properties and events, and the JSON Schema of ledgers."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from fedmq_schemas import generate
from fedmq_schemas.messages import BODIES, BlobRef
from fedmq_schemas.records import EVENT_NAMES, Ledger, LedgerEntry
from fedmq_schemas.routes import ROLES, ROUTES
from fedmq_schemas.topology import Topology


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((generate.FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    return found


def test_the_asyncapi_document_states_the_arguments_with_which_queues_are_declared(asyncapi: dict[str, Any]) -> None:
    """`tests/contracts/test_broker_rabbitmq_documents.py` compares them with a live broker."""
    for name, (queue, _) in generate.inboxes(Topology("{alliance}")).items():
        assert asyncapi["channels"][f"inbox_{name}"]["x-arguments"] == queue.arguments
        assert "x-dead-letter-exchange" not in queue.arguments


def test_the_asyncapi_document_states_the_properties_and_the_correlation_of_messages(asyncapi: dict[str, Any]) -> None:
    properties = asyncapi["components"]["schemas"]["properties"]["properties"]
    assert properties.keys() >= {"message_id", "user_id", "content_type", "delivery_mode", "expiration"}
    for message in asyncapi["components"]["messages"].values():
        assert message["correlationId"]["$ref"] == "#/components/correlationIds/cause"
        assert message["headers"]["$ref"] == "#/components/schemas/properties"


def test_the_asyncapi_document_lists_the_names_of_events(asyncapi: dict[str, Any]) -> None:
    assert asyncapi["x-events"] == EVENT_NAMES
    assert all(f"data.{key}" in EVENT_NAMES["message.refused"] for key in ("reason", "inbox", "key", "sender"))


def test_the_ledgers_of_a_real_session_are_valid_by_their_schema() -> None:
    schema = json.loads((generate.FOLDER / "ledger.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    entry = LedgerEntry(client="a", outcome="accepted", weight=7, norm=1.5, seconds={"train": 2.0}, at=4.0)
    model = BlobRef(key="models/m", size=9, sha256="f" * 64)
    ledger = Ledger(
        session="s1", round=1, attempt=2, parent=model, exponents=(1,), total_weight=7, entries=(entry,), plans=()
    )
    jsonschema.Draft202012Validator(schema).validate(json.loads(ledger.model_dump_json()))
    assert schema["$defs"]["LedgerEntry"]["properties"].keys() == LedgerEntry.model_fields.keys()


def test_every_answer_of_a_route_is_a_message_to_the_sender_of_the_request() -> None:
    for route in ROUTES:
        for answer in route.answers:
            ways = [way for way in ROUTES if way.kind == answer]
            assert ways, answer
            assert answer == "event" or any(route.receiver in (way.sender, way.receiver) for way in ways)


def test_the_asyncapi_document_tells_every_route_and_inbox(asyncapi: dict[str, Any]) -> None:
    reported = {
        (operation["x-sender"], operation["messages"][0]["$ref"].rpartition("/")[2], operation["x-receiver"])
        for operation in asyncapi["operations"].values()
    }
    assert reported == {(route.sender, route.kind, route.receiver) for route in ROUTES}
    queue = asyncapi["channels"]["inbox_reducer"]
    assert queue["x-arguments"]["x-queue-type"] == "quorum" and queue["x-arguments"]["x-single-active-consumer"] is True
    assert asyncapi["channels"]["inbox_client"]["x-arguments"]["x-expires"] == 7 * 24 * 3600 * 1000
    assert asyncapi["x-roles"].keys() == ROLES.keys()


def test_every_kind_of_message_has_a_way() -> None:
    assert {route.kind for route in ROUTES} == BODIES.keys()


def test_an_address_is_matched_word_by_word() -> None:
    update = next(route for route in ROUTES if route.kind == "update")
    assert update.matches("update.combiner1.client1")
    assert not update.matches("update.combiner1.client1.more")
    assert not update.matches("update.combiner1")
