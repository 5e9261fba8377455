"""Which blobs the records name, directly and through the ledgers of rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fedmq.blobs.base import Blobs
from fedmq.errors import InvalidUpdate, NotFound
from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.records import is_kept

NAMING = (tables.ROUNDS, tables.MODELS, tables.SESSIONS, tables.ATTEMPTS, tables.PARTIALS)
"""The tables whose records name blobs."""


@dataclass(frozen=True, slots=True)
class NamedBlob:
    """A blob that a record names. `record` is that record: its table, a space, and its key.

    A blob is not `needed` if sessions may go on without it: what only its own round needed, such as a client's update. Such
    blobs are deleted by retention, or by hand. Their absence limits `fedmq model verify` of that round.
    """

    ref: BlobRef
    record: str
    needed: bool

    def fault(self, words: str) -> dict[str, str]:
        """Returns the row of a report that says what is wrong with this blob."""
        return {"record": self.record, "blob": self.ref.key, "fault": words.removeprefix(f"blob {self.ref.key} ")}


class NamedBlobs:
    """The blobs that `records` name, by key, those of the newest models first.

    Models that are no longer kept, and the optimizer states of their rounds, are not among them. The ledgers of rounds
    are read from `blobs`; one that is gone or altered names nothing.
    """

    def __init__(self, records: Records, blobs: Blobs) -> None:
        self.found: dict[str, NamedBlob] = {}
        let_go = let_go_blobs(records)
        for table in NAMING:
            named = [(key, ref) for key, document in documents(records, table) for ref in references(document)]
            # In key order the newest round of a session is its last one. A session that runs deletes the oldest first.
            for key, ref in reversed(named):
                self._add(ref, f"{table} {key}", let_go)
        for ledger in [each for each in self.found.values() if each.ref.key.endswith("/ledger.json")]:
            try:
                content = json.loads(blobs.load(ledger.ref))
            except (NotFound, InvalidUpdate):
                continue
            for ref in references(content):
                self._add(ref, ledger.record, let_go)

    def _add(self, ref: BlobRef, record: str, let_go: set[str]) -> None:
        if ref.key not in let_go:
            needed = keys.expiring_round(ref.key) is None
            self.found.setdefault(ref.key, NamedBlob(ref, record, needed))


def let_go_blobs(records: Records) -> set[str]:
    """Returns the keys of blobs that retention deletes: of models that are not kept, and of optimizer states for them."""
    models = {document["ref"]["key"] for _, document in documents(records, tables.MODELS) if not is_kept(document)}
    states = {
        document["optimizer"]["key"]
        for _, document in documents(records, tables.ROUNDS)
        if document["model"]["key"] in models and document.get("optimizer") is not None
    }
    return models | states


def documents(records: Records, table: str) -> Iterator[tuple[str, Document]]:
    """Yields all documents of a table with their keys, in key order, and reads them page by page."""
    last = ""
    while page := records.page(table, last):
        yield from page
        last = page[-1][0]


def references(value: Any) -> Iterator[BlobRef]:
    """Yields each reference to a blob in a document, at any depth."""
    if isinstance(value, Mapping):
        if value.keys() == BlobRef.model_fields.keys():
            try:
                yield BlobRef.model_validate(value)
            except ValidationError:
                return  # a policy's or a metric's own field of these names
        else:
            for each in value.values():
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)
