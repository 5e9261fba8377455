"""What every record adapter agrees on: names, and documents as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from fedmq.errors import ProtocolError
from fedmq.records.base import Document

LEASE_TABLE = "lease"
LEASE_KEY = "reducer"

_TABLE = re.compile(r"[a-z][a-z_]{0,63}")
_FIELD = re.compile(r"[A-Za-z_][\w/-]*(?:\.[A-Za-z_][\w/-]*)*", re.ASCII)
# NaN and the infinities are not JSON, and metrics may be any of them.
_MARK = "$float"
_NOT_JSON = (b"NaN", b"Infinity")


def check_table(table: str) -> str:
    """The name itself; raises `ProtocolError` unless it is lower-case letters and underscores."""
    if _TABLE.fullmatch(table) is None:
        raise ProtocolError(f"{table!r} is not a table's name: lower-case letters and underscores only")
    return table


def check_field(name: str) -> str:
    """The name itself; raises `ProtocolError` unless it may stand in a query (dots reach into sub-documents)."""
    if _FIELD.fullmatch(name) is None:
        raise ProtocolError(f"{name!r} is not a field's name: letters, digits, '_', '-', '/', and dots between")
    return name


def check_document(document: Mapping[str, Any]) -> None:
    """Raises `ProtocolError` if the document has a field `_id`, which is MongoDB's place for the key."""
    if "_id" in document:
        raise ProtocolError("a record has no field '_id': its key stands beside it")


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises `ProtocolError` unless every name is one of a top-level field."""
    check_document(fields)
    for name in fields:
        if "." in check_field(name):
            raise ProtocolError(f"{name!r} is not a top-level field")


def first_of_each(items: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Returns the first document of each key."""
    found: dict[str, Mapping[str, Any]] = {}
    for key, document in items:
        found.setdefault(key, document)
    return found


def to_text(document: Mapping[str, Any]) -> str:
    """The document as JSON, on one line; dates, bytes and sets become texts and lists. Raises `ProtocolError` if it holds
    an object of any other kind, or `_id`."""
    check_document(document)
    return _text(document)


def to_texts(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """One JSON map of documents by their keys, each of them as `to_text` writes it. Raises as that does."""
    for document in documents.values():
        check_document(document)
    return _text(documents)


def from_text(text: str) -> Document:
    """The document that `to_text` wrote; tuples have become lists."""
    hook = _unmark if _MARK in text else None
    document: Document = json.loads(text, object_hook=hook)
    return document


def _text(value: Mapping[str, Any]) -> str:
    text = _write(value)
    return (_write(_mark(value)) if any(word in text for word in _NOT_JSON) else text).decode()


def _write(document: Any) -> bytes:
    try:
        return to_json(document, inf_nan_mode="constants")
    except ValueError as error:
        raise ProtocolError(f"not a record: {error}") from error


def _mark(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_MARK: str(value)}
    if isinstance(value, Mapping):
        return {key: _mark(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mark(item) for item in value]
    return value


def _unmark(value: dict[str, Any]) -> Any:
    return float(value[_MARK]) if value.keys() == {_MARK} else value
