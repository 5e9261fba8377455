"""The record port: small documents in named tables, unique keys, and one lease.

Only reducers write records; anybody may read them. A document is a JSON object. Tables are listed in
`fedmq_schemas.records`, with what each holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide. `epoch` grows by one with every new holder and never repeats."""

    holder: str
    epoch: int


class Records(Protocol):
    """A store of documents. Methods block and may be called from any thread; a server that is away is `Transient`,
    malformed names are `ProtocolError`.

    A table is there as soon as it is used. Documents hold what JSON can (text, booleans, integers of 64 bits, floats,
    None, lists, objects with text keys) and also NaN and the infinities; tuples come back as lists. A document has no
    field `_id`.

    `fence`: the epoch of the writer's lease. Where given, the write is refused with `Fenced` if the recorded lease has
    a higher epoch (SQLite: in the same transaction; MongoDB: read just before, the unique key is what makes it safe).

    - `insert(table, key, document, fence)`: None if it was inserted; the document that is already there if the key is
      taken (nothing is changed then). This is the commit point of rounds.
    - `put(table, key, document, fence)`: inserts or replaces.
    - `update(table, key, fields, fence)`: sets these top-level fields; `NotFound` if the key is absent.
    - `put_many(table, items, fence)`: many at once, in order; each present key is replaced; all durable on return. If it
      raises, any part of them may have been written.
    - `insert_many(table, items, fence)`: many at once; of each key the first document stays, whether it is there already or
      among these. All durable on return; if it raises, any part of them may have been written.
    - `get(table, key)`: the document or None.
    - `find(table, where, order, descending, limit, after)`: documents whose fields equal `where` (dotted names reach
      into sub-documents; a list value means "any of"; None also matches an absent field), ordered by the field `order`
      and then by key, only those whose order value is greater (descending: less) than `after`. Without `order`: by key,
      and `after` is a key. `count(table, where)`: how many.
    - `delete(table, where)`: how many were removed; an empty `where` removes all.
    - `acquire(holder, seconds)`: the lease if it is free, expired or already this holder's (renewed, same epoch); None
      if another holds it. Compare-and-set; time is the caller's wall clock, read in the adapter only, so the clocks of
      standby reducers must agree to well within `seconds`.
    - `renew(lease, seconds)`: True if it still is this holder's with this epoch, even if it had expired meanwhile
      without being taken; False if it was taken. `release(lease)`: gives it up at once.
    - `close()`: idempotent.
    """

    def insert(
        self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None
    ) -> Document | None: ...
    def put(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> None: ...
    def update(self, table: str, key: str, fields: Mapping[str, Any], fence: int | None = None) -> None: ...
    def put_many(
        self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None
    ) -> None: ...
    def insert_many(
        self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None
    ) -> None: ...
    def get(self, table: str, key: str) -> Document | None: ...
    def find(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        order: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: Any = None,
    ) -> Sequence[Document]: ...
    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int: ...
    def delete(self, table: str, where: Mapping[str, Any]) -> int: ...
    def acquire(self, holder: str, seconds: float) -> Lease | None: ...
    def renew(self, lease: Lease, seconds: float) -> bool: ...
    def release(self, lease: Lease) -> None: ...
    def close(self) -> None: ...
