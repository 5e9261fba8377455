"""The record port: small documents in named tables, unique keys, and one lease.

Only reducers write records; any role may read them. A document is a JSON object. `fedmq_schemas.records` lists the tables
and their contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedmq.lease import HeldLease

Document = dict[str, Any]
STORE = "records"
"""The `store` of the errors of a record store."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide. `epoch` increases by one with every new holder and never repeats."""

    holder: str
    epoch: int


class Records(Protocol):
    """A store of documents. All methods block, and may be called from any thread.

    A table exists once it is used. A document holds values of JSON (integers of 64 bits), and also NaN and the infinities.
    It has no field `_id`. Tuples are returned as lists.

    With `fence`, the epoch of the writer's lease, a write raises `Fenced` if the recorded lease has a higher epoch. SQLite
    reads the lease in the transaction of the write. MongoDB reads it just before; unique keys make that safe.

    All methods raise `Transient` if the server fails, and `ProtocolError` for a malformed name.
    """

    def insert(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> Document | None:
        """Inserts a document and returns None, or changes nothing and returns the present document of this key.

        Inserting the record of a round commits the round.
        """

    def put(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> None:
        """Inserts or replaces a document."""

    def update(self, table: str, key: str, fields: Mapping[str, Any], fence: int | None = None) -> None:
        """Sets top-level fields of a document. Raises `NotFound` for an absent key."""

    def put_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        """Inserts or replaces documents, in order. If it raises, any part of them may be written."""

    def insert_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        """Inserts documents and keeps the first of each key, present or given. If it raises, any part may be written."""

    def get(self, table: str, key: str) -> Document | None:
        """Returns a document, or None."""

    def find(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        order: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: Any = None,
    ) -> Sequence[Document]:
        """Returns the documents whose fields equal `where`.

        Args:
            table: The table.
            where: Values by field. A dotted name reaches into sub-documents. A list means any of its values. None also
                matches an absent field.
            order: The field to order by; equal values are ordered by key. None orders by key.
            descending: Reverses the order.
            limit: The greatest number of documents.
            after: Only documents whose value of `order` (or key) is greater than this; less, if descending.
        """

    def page(self, table: str, after: str = "", limit: int = 500) -> Sequence[tuple[str, Document]]:
        """Returns at most `limit` documents with their keys, in key order, from the first key greater than `after`."""

    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int:
        """Returns the number of documents whose fields equal `where`."""

    def delete(self, table: str, where: Mapping[str, Any]) -> int:
        """Deletes the documents whose fields equal `where` (all, if it is empty), and returns their number."""

    def acquire(self, holder: str, seconds: float, lapsed: str = "") -> Lease | HeldLease:
        """Returns the lease if `holder` has it now, else whose it is. Compares and sets.

        `holder` gets the lease if it is free, if `holder` has it already (with the same epoch), or if its stamp still is
        `lapsed`: the caller has seen that stamp for as long as `HeldLease.seconds` says (`LeaseWatch`).

        Args:
            holder: The name of the process, which no other process has.
            seconds: For how long `holder` may leave the lease unrenewed.
            lapsed: The stamp of a lease that its holder has not renewed in time; empty if there is none.
        """

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Extends the lease, also a lapsed one. Returns False if another holder has acquired it."""

    def release(self, lease: Lease) -> None:
        """Gives up the lease at once."""

    def close(self) -> None:
        """Closes the store. May be called twice."""
