"""Encodes messages to bytes and decodes them. Pure.

Every message passes through here, also inside one process, so what works in one process works between two. FedMQ sends
msgpack. JSON is accepted as well, by content type, and a client that attaches in JSON is answered in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
from pydantic import ValidationError

from fedmq.errors import ProtocolError
from fedmq_schemas.messages import BODIES, MAX_BODY, VERSION, Body, Envelope, Start

MSGPACK = "application/msgpack"
JSON = "application/json"
# `model_validate` and `model_dump` take twice as long as the pydantic calls that they wrap: about 3 % of the CPU time of a
# round with 1,000 clients.
_AS_ENVELOPE = Envelope.__pydantic_validator__.validate_python
_AS_BODY = {kind: body.__pydantic_validator__.validate_python for kind, body in BODIES.items()}
MOST_STEPS = 6
"""Number of path elements that an error message shows. Limits messages about deeply nested hostile bodies."""
MOST_FAULTS = 3
"""Number of faults that an error message explains."""


@dataclass(slots=True)
class Message:
    """A decoded message."""

    envelope: Envelope
    body: Body


class UnknownKind(ProtocolError):
    """The kind or version is newer than this program, or not one of FedMQ's."""


class BadBody(ProtocolError):
    """The body does not validate; its envelope does."""

    def __init__(self, reason: str, envelope: Envelope) -> None:
        super().__init__(reason)
        self.envelope = envelope


def encode(envelope: Mapping[str, Any], body: Mapping[str, Any], content_type: str = MSGPACK) -> bytes:
    """Encodes an envelope's fields with those of its body, as msgpack or JSON.

    Raises ProtocolError if a value can't be encoded, or if the message is over 64 KB: large data travels as blobs.
    """
    try:
        document = {**envelope, "body": body}
        data: bytes = msgpack.packb(document) if content_type == MSGPACK else _in_json(document)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"a {envelope['kind']} message can't be written: {error}") from error
    if len(data) > MAX_BODY:
        raise ProtocolError(f"a {envelope['kind']} message of {len(data)} bytes is over the limit of {MAX_BODY}")
    return data


def _in_json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def fields_of(body: Body) -> dict[str, Any]:
    """Returns the fields of a body, for `encode`."""
    fields: dict[str, Any] = body.__pydantic_serializer__.to_python(body)
    return fields


def decode(
    data: bytes,
    content_type: str,
    *,
    message_id: str,
    alliance: str,
    user: str | None = None,
    check: Callable[[Envelope], None] | None = None,
) -> Message:
    """Decodes and validates a message.

    `message_id`, `alliance` and `user` are what the broker reports. They replace an envelope's `id`, `alliance` and
    `sender` where a hand-written message lacks them. `user` None: the broker does not identify the sender. `check` receives
    the envelope before the body is read, and may raise ProtocolError.

    Raises ProtocolError with the cause: too large, not a map, another alliance, a sender that is not `user`. Raises its
    subclass UnknownKind for a kind or version that this program does not know, and BadBody for a body that does not
    validate. A kind with `any_version` is read in each version.
    """
    document = _parse(data, content_type)
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in BODIES:
        raise UnknownKind(f"unknown kind {kind!r}: known are {', '.join(sorted(BODIES))}")
    version = document.get("version", VERSION)
    if version != VERSION and not BODIES[kind].any_version:
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
        raise ProtocolError(f"{kind} message names the sender {envelope.sender!r}, the broker names {user!r}")
    if check is not None:
        check(envelope)
    try:
        return Message(envelope, _AS_BODY[kind](body_document))
    except ValidationError as error:
        raise BadBody(f"{kind} message: {explain(error)}", envelope) from error


def explain(error: ValidationError) -> str:
    """Returns one sentence that names the place and the cause of the first faults."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False)[:MOST_FAULTS]:
        where = ".".join(str(step) for step in fault["loc"][:MOST_STEPS])
        text = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{where}: {text}" if where else text)
    more = error.error_count() - len(faults)
    return "; ".join(faults) + (f" (and {more} more)" if more > 0 else "")


def name_from_id(message_id: str) -> str:
    """Returns a message id as a session id: unchanged if it is a legal name, otherwise with illegal characters replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", message_id).strip("-_")[:64] or "session"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _parse(data: bytes, content_type: str) -> dict[str, Any]:
    if len(data) > MAX_BODY:
        raise ProtocolError(f"a body of {len(data)} bytes is over the limit of {MAX_BODY}")
    try:
        document = json.loads(data, parse_constant=_refuse) if content_type == JSON else msgpack.unpackb(data)
        if content_type == JSON:  # JSON has numbers and texts that msgpack, and so a message of ours, can't pass on
            msgpack.packb(document)
    except Exception as error:
        form = "JSON" if content_type == JSON else "msgpack"
        raise ProtocolError(f"the body is not {form} ({type(error).__name__}: {error})") from error
    if not isinstance(document, dict):
        raise ProtocolError("the body is not a map")
    return document
