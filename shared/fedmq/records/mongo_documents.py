"""Documents and conditions as MongoDB has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.records.base import Document
from fedmq.records.documents import check_document, check_field


def row_of(key: str, document: Mapping[str, Any]) -> Document:
    """Returns the document with its key as `_id`. Raises ProtocolError for what is no record."""
    check_document(document)
    return {"_id": key, **document}


def conditions_of(where: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns a filter: a field equals its value, or one of a list."""
    return {
        check_field(name): {"$in": list(wanted)} if isinstance(wanted, (list, tuple)) else {"$eq": wanted}
        for name, wanted in (where or {}).items()
    }
