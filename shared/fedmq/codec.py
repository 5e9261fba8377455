"""The codec: messages to bytes and back. Pure.

Every message of every setting passes through here, so what works in one process works between two. msgpack is what
FedMQ sends; JSON is accepted as well, by content type, so that a person can publish a start message by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
from pydantic import ValidationError

from fedmq.errors import ProtocolError
from fedmq_schemas.messages import BODIES, MAX_BODY, VERSION, Body, Envelope, Start

MSGPACK = "application/msgpack"
JSON = "application/json"
# `model_validate` and `model_dump` of pydantic take half as long again as what they call.
_AS_ENVELOPE = Envelope.__pydantic_validator__.validate_python
_AS_BODY = {kind: body.__pydantic_validator__.validate_python for kind, body in BODIES.items()}
MOST_STEPS = 6
"""Of the way to a fault, that many steps are told; a hostile body may be hundreds deep."""


@dataclass(slots=True)
class Message:
    """A decoded message."""

    envelope: Envelope
    body: Body


class UnknownKind(ProtocolError):
    """The kind or version is newer than this program, or not ours."""


class BadBody(ProtocolError):
    """The envelope is sound and its body does not validate. `envelope` says whose it is."""

    def __init__(self, reason: str, envelope: Envelope) -> None:
        super().__init__(reason)
        self.envelope = envelope


def encode(envelope: Mapping[str, Any], body: Mapping[str, Any], content_type: str = MSGPACK) -> bytes:
    """The wire form of a body's fields with its envelope's. Raises ProtocolError if it is larger than a message may be
    (64 KB), as large things go by reference, or holds what a message can't."""
    document = {**envelope, "body": body}
    try:
        data = json.dumps(document, separators=(",", ":")).encode() if content_type == JSON else msgpack.packb(document)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"a {envelope['kind']} message can't be written: {error}") from error
    if len(data) > MAX_BODY:
        raise ProtocolError(f"a {envelope['kind']} message of {len(data)} bytes is over the limit of {MAX_BODY}")
    return data


def fields_of(body: Body) -> dict[str, Any]:
    """The fields of a body, for `encode`."""
    fields: dict[str, Any] = body.__pydantic_serializer__.to_python(body)
    return fields


def decode(data: bytes, content_type: str, *, message_id: str, alliance: str, user: str | None = None) -> Message:
    """Checks and builds a message.

    `message_id`, `alliance` and `user` are what the broker knows: they stand in for an envelope's `id`, `alliance` and
    `sender` where a hand-written message lacks them. Raises ProtocolError that names the cause: oversize, not a map,
    unknown kind or version (UnknownKind), another alliance, a sender that is not the authenticated user, or a body that
    does not validate (BadBody).
    """
    document = _parse(data, content_type)
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in BODIES:
        raise UnknownKind(f"unknown kind {kind!r}: known are {', '.join(sorted(BODIES))}")
    version = document.get("version", VERSION)
    if version != VERSION:
        raise UnknownKind(f"version {version!r} of {kind} is not spoken here: this program speaks {VERSION}")
    body_document = document.pop("body", {})
    document.setdefault("id", message_id)
    document.setdefault("alliance", alliance)
    document.setdefault("sender", user or "somebody")
    document.setdefault("sent_at", 0.0)
    try:
        envelope: Envelope = _AS_ENVELOPE(document)
    except ValidationError as error:
        raise ProtocolError(f"{kind} message: {explain(error)}") from error
    if envelope.alliance != alliance:
        raise ProtocolError(f"{kind} message is for alliance {envelope.alliance!r}, this is {alliance!r}")
    if user is not None and envelope.sender != user and kind != Start.kind:
        raise ProtocolError(f"{kind} message says it is from {envelope.sender!r}, the broker says {user!r}")
    try:
        return Message(envelope, _AS_BODY[kind](body_document))
    except ValidationError as error:
        raise BadBody(f"{kind} message: {explain(error)}", envelope) from error


def explain(error: ValidationError) -> str:
    """One sentence a person can act on: where, and what is wrong there (the first three faults)."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(step) for step in fault["loc"][:MOST_STEPS])
        text = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{where}: {text}" if where else text)
    more = error.error_count() - len(faults)
    return "; ".join(faults) + (f" (and {more} more)" if more > 0 else "")


def name_from_id(message_id: str) -> str:
    """A message id as a session id: unchanged where it is a legal name, else with what is not legal replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", message_id).strip("-_")[:64] or "session"


def _parse(data: bytes, content_type: str) -> dict[str, Any]:
    if len(data) > MAX_BODY:
        raise ProtocolError(f"a body of {len(data)} bytes is over the limit of {MAX_BODY}")
    try:
        document = json.loads(data) if content_type == JSON else msgpack.unpackb(data)
        if content_type == JSON:  # its numbers and texts may be such that no message of ours can pass them on
            msgpack.packb(document)
    except Exception as error:
        form = "JSON" if content_type == JSON else "msgpack"
        raise ProtocolError(f"the body is not {form} ({type(error).__name__}: {error})") from error
    if not isinstance(document, dict):
        raise ProtocolError("the body is not a map")
    return document
