"""The JSON Schemas and the code accept the same messages, of every kind: valid, nearly valid and hostile ones."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jsonschema
import msgpack
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fedmq import codec
from fedmq.errors import ProtocolError
from fedmq_schemas import generate
from fedmq_schemas.messages import BODIES
from schemas.drawn import full, mutations, valid

BEYOND_A_SCHEMA = (
    "nested more than",
    "holds more than",
    "does not fit into 64 bits",
    "clients_requested (",
    "the policy has",
    "is over the limit of",
    "more than the limit of",
)
"""Reasons of refusals that no JSON Schema can state. `schemas/README.md` lists them."""


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Any:
    """ECMA's `$`, unlike Python's, does not match before a newline at the end."""
    ecma = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
    if isinstance(value, str) and re.search(ecma, value) is None:
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


@cache
def validator(kind: str) -> Any:
    return Validator(generate.message_schema(kind))


def refusal(document: dict[str, Any], content_type: str = codec.MSGPACK) -> str | None:
    """Returns why the code refuses a message; None if it accepts it."""
    data = msgpack.packb(document) if content_type == codec.MSGPACK else json.dumps(document).encode()
    alliance = document.get("alliance")
    try:
        codec.decode(data, content_type, message_id="m1", alliance=alliance if isinstance(alliance, str) else "north")
    except ProtocolError as error:
        return error.reason
    return None


def is_json(document: Any) -> bool:
    try:
        json.dumps(document)
    except TypeError:  # bytes
        return False
    return True


def check(kind: str, document: dict[str, Any]) -> None:
    if document.get("kind") != kind:
        return
    reason, is_valid = refusal(document), validator(kind).is_valid(document)
    if is_valid and reason is not None:
        assert any(words in reason for words in BEYOND_A_SCHEMA), reason
    if not is_valid:
        assert reason is not None, next(validator(kind).iter_errors(document)).message
    if is_json(document):
        in_json = refusal(document, codec.JSON)
        assert (in_json is None) == (reason is None) or "over the limit" in f"{in_json}{reason}"


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_message_that_a_schema_accepts_is_accepted(kind: str) -> None:
    schema = generate.message_schema(kind)

    @given(valid(schema, schema))
    @settings(max_examples=25, phases=(Phase.generate,))
    def accepted(document: dict[str, Any]) -> None:
        assert validator(kind).is_valid(document)
        check(kind, document)

    accepted()


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_message_with_an_odd_value_is_accepted_by_schema_and_code_alike(kind: str) -> None:
    schema = generate.message_schema(kind)
    document = full(schema, schema)
    assert refusal(document) is None
    for changed in mutations(document):
        check(kind, changed)


@given(st.sampled_from(sorted(BODIES)), st.recursive(st.none() | st.integers(0, 9) | st.text(max_size=3), st.lists))
def test_a_body_that_is_no_map_is_refused_by_schema_and_code_alike(kind: str, body: Any) -> None:
    check(kind, {"kind": kind, "id": "m1", "alliance": "north", "sender": "c1", "sent_at": 1.0, "body": body})
