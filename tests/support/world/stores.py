"""A simulated world's stores: the embedded ones, which fail as servers do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from fedmq.blobs.base import BlobInfo, BlobSource, SignedUpload
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import ProtocolError
from fedmq.lease import HeldLease
from fedmq.records.base import Document, Lease, Records
from fedmq.records.documents import first_of_each
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas.messages import BlobRef
from support.world.faults import StoreFaults


class Call(Protocol):
    """Surrounds a store's work with what happens in the world meanwhile. `patient`: the processes that see no fault."""

    def __call__(
        self, what: str, weather: StoreFaults, patient: Collection[str] = ()
    ) -> AbstractContextManager[None]: ...


class WorldBlobs(MemoryBlobs):
    """Blobs that fail as a server does. Reads by processes in `patient` never do: their transfers try again by
    themselves until their time is up, which virtual time cannot show. `deleted`: what was there and is deleted, for those
    who look at a run afterwards. `on_put` is called with the reference of each blob that was stored, `on_upload` with key
    and URL of each upload that was permitted."""

    def __init__(self, call: Call, wall: Callable[[], float], weather: StoreFaults) -> None:
        super().__init__(clock=wall)
        self._call = call
        self.weather = weather
        self.patient: frozenset[str] = frozenset()
        self.deleted: dict[str, bytes] = {}
        self.on_put: Callable[[BlobRef], None] = lambda ref: None
        self.on_upload: Callable[[str, str], None] = lambda key, url: None

    def put(self, key: str, source: BlobSource) -> BlobRef:
        with self._call(f"put {key}", self.weather):
            ref = super().put(key, source)
            self.on_put(ref)
            return ref

    def presign_upload(self, ref: BlobRef, seconds: float) -> SignedUpload:
        upload = super().presign_upload(ref, seconds)
        self.on_upload(ref.key, upload.url)
        return upload

    def load(self, ref: BlobRef) -> bytes:
        with self._call(f"load {ref.key}", self.weather):
            return super().load(ref)

    def get(self, key: str) -> bytes:
        with self._call(f"get {key}", self.weather, self.patient):
            return super().get(key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        with self._call(f"read {key}", self.weather):
            return super().read(key, offset, length)

    def stat(self, key: str) -> BlobInfo:
        with self._call(f"stat {key}", self.weather):
            return super().stat(key)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        with self._call(f"list {prefix}", self.weather):
            found = [*super().list(prefix)]
        return iter(found)

    def delete(self, key: str) -> None:
        with self._call(f"delete {key}", self.weather):
            if self.holds(key):
                self.deleted[key] = super().get(key)
            super().delete(key)

    def holds(self, key: str) -> bool:
        """Whether the blob is there now; never fails."""
        return key in self._blobs

    def ever(self, key: str) -> bytes:
        """The blob as it is, or was before it was deleted; never fails for want of a server."""
        return super().get(key) if self.holds(key) else self.deleted[key]


class WorldRecords(Records):
    """Records in SQLite's memory that fail as a server does. `on_write(table, key, old, new)` is called with every change
    of a document by `insert`, `put` and `update`, also of many. `poison`: a text with which it refuses a document. `encode`
    is called with every document that is to be written, and may refuse it."""

    def __init__(self, call: Call, wall: Callable[[], float], weather: StoreFaults) -> None:
        self.inner = SqliteRecords(":memory:", clock=wall)
        self._call = call
        self.weather = weather
        self.on_write: Callable[[str, str, Document | None, Mapping[str, Any]], None] = lambda *_: None
        self.poison = ""
        self.encode: Callable[[Mapping[str, Any]], object] = lambda document: None

    def _check(self, *documents: Mapping[str, Any]) -> None:
        for document in documents:
            self.encode(document)
        if self.poison and any(self.poison in str(document) for document in documents):
            raise ProtocolError(f"not a record: it holds {self.poison!r}")

    def insert(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> Document | None:
        self._check(document)
        with self._call(f"insert {table} {key}", self.weather):
            existing = self.inner.insert(table, key, document, fence)
            if existing is None:
                self.on_write(table, key, None, document)
        return existing

    def put(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> None:
        self._check(document)
        with self._call(f"put {table} {key}", self.weather):
            old = self.inner.get(table, key)
            self.inner.put(table, key, document, fence)
            self.on_write(table, key, old, document)

    def update(self, table: str, key: str, fields: Mapping[str, Any], fence: int | None = None) -> None:
        self._check(fields)
        with self._call(f"update {table} {key}", self.weather):
            old = self.inner.get(table, key)
            self.inner.update(table, key, fields, fence)
            self.on_write(table, key, old, {**(old or {}), **fields})

    def put_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        items = list(items)
        self._check(*(document for _, document in items))
        with self._call(f"put_many {table}", self.weather):
            old = [self.inner.get(table, key) for key, _ in items]
            self.inner.put_many(table, items, fence)
            for (key, document), before in zip(items, old, strict=True):
                self.on_write(table, key, before, document)

    def insert_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        new = first_of_each(items)
        self._check(*new.values())
        with self._call(f"insert_many {table}", self.weather):
            new = {key: document for key, document in new.items() if self.inner.get(table, key) is None}
            self.inner.insert_many(table, new.items(), fence)
            for key, document in new.items():
                self.on_write(table, key, None, document)

    def get(self, table: str, key: str) -> Document | None:
        with self._call(f"get {table} {key}", self.weather):
            return self.inner.get(table, key)

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
        with self._call(f"find {table}", self.weather):
            return self.inner.find(table, where, order=order, descending=descending, limit=limit, after=after)

    def page(self, table: str, after: str = "", limit: int = 500) -> Sequence[tuple[str, Document]]:
        with self._call(f"page {table}", self.weather):
            return self.inner.page(table, after, limit)

    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int:
        with self._call(f"count {table}", self.weather):
            return self.inner.count(table, where)

    def delete(self, table: str, where: Mapping[str, Any]) -> int:
        with self._call(f"delete {table}", self.weather):
            return self.inner.delete(table, where)

    def acquire(self, holder: str, seconds: float, lapsed: str = "") -> Lease | HeldLease:
        with self._call("acquire", self.weather):
            return self.inner.acquire(holder, seconds, lapsed)

    def renew(self, lease: Lease, seconds: float) -> bool:
        with self._call("renew", self.weather):
            return self.inner.renew(lease, seconds)

    def release(self, lease: Lease) -> None:
        with self._call("release", self.weather):
            self.inner.release(lease)

    def close(self) -> None:
        self.inner.close()
