"""What belongs to one client has no place in a message, a record, a route of the broker, or a route of the REST API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fedmq.blobs.memory import MemoryBlobs
from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.app import create_app
from fedmq_schemas.messages import BODIES, PersonalStart
from fedmq_schemas.records import Ledger
from fedmq_schemas.records.base import Record
from fedmq_schemas.routes import ROUTES

SUSPECT = re.compile(r"personal|local|private|state|kept", re.IGNORECASE)
KNOWN = {
    "personal": "the policy's word, and whether a client continued and from which session",
    "local": "the policy's patterns of tensor names",
    "state": "the stage of a session, or whether a client or combiner is present",
    "kept": "whether retention keeps a model's bytes",
}
PERSONAL = {"outcome", "session", "reason"}


def _api() -> dict[str, Any]:
    context = ApiContext(
        alliance="a",
        records=SqliteRecords(":memory:"),
        blobs=MemoryBlobs(),
        publish=lambda *_: None,
        feed=EventStream(),
        new_id=lambda: "id",
        scratch=Path(),
    )
    document: dict[str, Any] = create_app(context).openapi()
    return document


def _schemas() -> Iterator[dict[str, Any]]:
    models: list[type[BaseModel]] = [*BODIES.values(), *Record.__subclasses__(), Ledger]
    yield from (model.model_json_schema() for model in models)
    yield _api()


def _fields(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties.items()
        for value in schema.values():
            yield from _fields(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _fields(value)


def test_no_schema_has_a_field_for_local_tensors_or_state() -> None:
    found = {name for schema in _schemas() for name, _ in _fields(schema) if SUSPECT.search(name)}
    assert found == set(KNOWN)


def test_what_an_update_says_of_a_clients_state_is_a_word_a_session_and_a_short_reason() -> None:
    fields = PersonalStart.model_json_schema()["properties"]
    assert fields.keys() == PERSONAL
    assert fields["outcome"]["enum"] == ["continued", "fresh"]
    assert fields["reason"]["maxLength"] == 300


def test_no_route_leads_to_a_clients_folder() -> None:
    paths = [*_api()["paths"], *(f"{route.exchange} {route.key}" for route in ROUTES)]
    assert [path for path in paths if SUSPECT.search(path)] == []
