"""What the record adapters share: checks of names, and documents as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from fedmq.errors import ProtocolError
from fedmq.lease import HeldLease
from fedmq.records.base import Document

LEASE_TABLE = "lease"
LEASE_KEY = "reducer"
FREE: Document = {"holder": "", "epoch": 0, "expires": 0.0}
"""The lease before its first holder."""
UNSTATED_SECONDS = 10.0
"""How long a lease lasts whose record does not say so: one of release 0.2.0 or earlier."""

_TABLE = re.compile(r"[a-z][a-z_]{0,63}")
_FIELD = re.compile(r"[A-Za-z_][\w/-]*(?:\.[A-Za-z_][\w/-]*)*", re.ASCII)
# JSON has no NaN and no infinities, but metrics may have these values: NaN is written as {"$float": "nan"}. A map that
# looks like this itself is written with its value in a list.
_MARK = "$float"
_TO_MARK = (b"NaN", b"Infinity", _MARK.encode())
_MARKED = ("nan", "inf", "-inf")


def check_table(table: str) -> str:
    """Returns the name. Raises `ProtocolError` unless it consists of lower-case letters and underscores."""
    if _TABLE.fullmatch(table) is None:
        raise ProtocolError(f"{table!r} is not a table's name: lower-case letters and underscores only")
    return table


def check_field(name: str) -> str:
    """Returns the name. Raises `ProtocolError` if a query can't contain it. Dots reach into sub-documents."""
    if _FIELD.fullmatch(name) is None:
        raise ProtocolError(f"{name!r} is not a field's name: letters, digits, '_', '-', '/', and dots between")
    return name


def check_document(document: Mapping[str, Any]) -> None:
    """Raises `ProtocolError` if the document has a field `_id`, in which MongoDB stores the key."""
    if "_id" in document:
        raise ProtocolError("a record has no field '_id': its key stands beside it")


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises `ProtocolError` unless all names are those of top-level fields."""
    check_document(fields)
    for name in fields:
        if "." in check_field(name):
            raise ProtocolError(f"{name!r} is not a top-level field")


def acquired(held: Document, holder: str, seconds: float, lapsed: str, wall: float) -> Document | HeldLease:
    """Returns the record of the lease that `holder` takes, given the present record; or whose the lease is.

    `expires` is the wall clock's time at which a reducer of release 0.2.0 or earlier takes the lease over; others do not
    read it.
    """
    found = HeldLease(_stamp(held), held.get("seconds", UNSTATED_SECONDS))
    if held["holder"] not in ("", holder) and found.stamp != lapsed:
        return found
    epoch = held["epoch"] + (held["holder"] != holder)
    renewals = held.get("renewals", 0) + 1
    return {"holder": holder, "epoch": epoch, "expires": wall + seconds, "seconds": seconds, "renewals": renewals}


def _stamp(held: Document) -> str:
    """Returns the stamp of a lease. A holder of release 0.2.0 or earlier changes `expires` only, with each renewal."""
    return f"{held['holder']}/{held['epoch']}/{held.get('renewals', 0)}/{held['expires']!r}"


def first_of_each(items: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Returns the first document of each key."""
    found: dict[str, Mapping[str, Any]] = {}
    for key, document in items:
        found.setdefault(key, document)
    return found


def to_text(document: Mapping[str, Any]) -> str:
    """Returns JSON on one line; dates, bytes and sets become texts and lists. Raises `ProtocolError` for the rest."""
    check_document(document)
    text = _write(document)
    return (_write(_mark(document)) if any(word in text for word in _TO_MARK) else text).decode()


def from_text(text: str) -> Document:
    """Returns the document that `to_text` wrote."""
    hook = _unmark if _MARK in text else None
    document: Document = json.loads(text, object_hook=hook)
    return document


def _write(document: Any) -> bytes:
    try:
        return to_json(document, inf_nan_mode="constants")
    except ValueError as error:
        raise ProtocolError(f"not a record: {error}") from error


def _mark(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_MARK: str(value)}
    if isinstance(value, Mapping):
        marked = {key: _mark(item) for key, item in value.items()}
        return {_MARK: [marked[_MARK]]} if marked.keys() == {_MARK} else marked
    if isinstance(value, (list, tuple)):
        return [_mark(item) for item in value]
    return value


def _unmark(value: dict[str, Any]) -> Any:
    """Undoes marks. A map that an older version has written looks like a mark and may be none: it stays as it is."""
    if value.keys() != {_MARK}:
        return value
    marked = value[_MARK]
    if isinstance(marked, list) and len(marked) == 1:
        return {_MARK: marked[0]}
    return float(marked) if marked in _MARKED else value
