"""Records in MongoDB 5 or newer: the store for many machines. The only module that imports `pymongo`.

Each table is a collection whose `_id` is the key. The database has the name of the alliance.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, MongoClient, ReplaceOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from fedmq import tls
from fedmq.connection_faults import fault
from fedmq.errors import ConfigError, Fenced, NotFound, ProtocolError, Refused, Transient
from fedmq.lease import HeldLease
from fedmq.records import mongo_address
from fedmq.records.base import STORE, Document, Lease
from fedmq.records.documents import (
    FREE,
    LEASE_KEY,
    LEASE_TABLE,
    acquired,
    check_field,
    check_fields,
    check_table,
    first_of_each,
)
from fedmq.records.mongo_codes import DUPLICATE, INVALID_OPTIONS, PASSING, UNAUTHORIZED
from fedmq.records.mongo_conflicts import repeated
from fedmq.records.mongo_documents import conditions_of, row_of
from fedmq_schemas.records import INDEXES

_LOG = logging.getLogger(__name__)
SELECTION_SECONDS = 5.0
ANSWER_SECONDS = 20.0
_ATTEMPTS = 8
_WITHOUT_KEY = {"_id": False}
# A write returns once it is on disk at most members. Without `j`, a single server acknowledges from memory.
_SAFE = WriteConcern(w="majority", j=True, wtimeout=10_000)


class MongoRecords:
    """The `Records` port on MongoDB; safe across threads, over one pool of connections.

    `host` is a name, `host:port,host:port` for a replica set, or a URL, which precedes `port`, `user`, `password` and
    `use_tls`. No message shows a URL's account. At most `connections` calls run at a time; one more
    connection monitors the server. `clock` returns wall-clock seconds, for the field `expires` of the lease. Indexes are
    made at the first write, so that a reader needs read rights only. A call waits at most 5 s for a server and 20 s for its
    answer.

    A write returns once a majority has it on disk. If a server accepts no write concern, its default is used and a warning
    is logged. Errors that pass are `Transient`. Others are `Refused`. Calls for one document, and reads, are repeated while
    they meet a conflict of two writes.

    Raises `ConfigError` if address or account are wrong; a wrong account only at the first call.
    """

    def __init__(
        self,
        host: str,
        port: int,
        database: str,
        *,
        user: str | None = None,
        password: str | None = None,
        use_tls: bool = False,
        connections: int = 8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.where = f"MongoDB at {mongo_address.hosts(host)}"
        self._clock = clock
        self._lock = threading.Lock()
        self._concern: WriteConcern | None = None
        self._indexed: set[str] = set()
        account: dict[str, Any] = {"username": user, "password": password} if user else {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # pymongo ignores a URL's option with a wrong value
                self._client: MongoClient[Document] = MongoClient(
                    host if mongo_address.is_url(host) else host.split(","),
                    port,
                    appname="fedmq",
                    connect=False,
                    maxPoolSize=connections,
                    serverMonitoringMode="poll",  # saves one connection
                    serverSelectionTimeoutMS=int(SELECTION_SECONDS * 1000),
                    connectTimeoutMS=int(SELECTION_SECONDS * 1000),
                    socketTimeoutMS=int(ANSWER_SECONDS * 1000),
                    **account,
                    **mongo_address.trust_options(host, use_tls),
                )
            self._database = self._client[database]
        except (PyMongoError, ValueError, UserWarning) as error:
            if mongo_address.is_url(host):  # pymongo's words may hold a part of the password
                raise ConfigError(
                    "FEDN_MONGO_URL is not a URL that MongoDB knows: percent-encode user and password, and check the options"
                ) from None
            raise ConfigError(f"the address of {self.where} is wrong: {error}") from error

    @repeated
    def insert(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> Document | None:
        """Inserts, and reads the present document if the key is taken."""
        row = row_of(key, document)
        with self._writing(table, fence) as collection:
            for _ in range(_ATTEMPTS):
                try:
                    collection.insert_one(row)
                    return None
                except DuplicateKeyError:
                    present = collection.find_one({"_id": key}, _WITHOUT_KEY)
                    if present is not None:
                        return present
        raise Transient(f"{key} in {table} is inserted and deleted again and again", store=STORE)

    def put(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> None:
        """Replaces with upsert."""
        row = row_of(key, document)
        with self._writing(table, fence) as collection:
            _replace(collection, [row])

    @repeated
    def update(self, table: str, key: str, fields: Mapping[str, Any], fence: int | None = None) -> None:
        """Sets the fields in one operation."""
        check_fields(fields)
        with self._writing(table, fence) as collection:
            if fields:
                found = collection.update_one({"_id": key}, {"$set": dict(fields)}).matched_count > 0
            else:
                found = collection.find_one({"_id": key}) is not None
        if not found:
            raise NotFound(f"there is no {key} in {table}")

    def put_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        """Inserts all documents in one request, and replaces those whose keys are taken."""
        rows = [row_of(key, document) for key, document in items]
        if not rows:
            return
        with self._writing(table, fence) as collection:
            try:
                collection.insert_many(rows, ordered=False)  # most keys are new: several times as fast as replacing
            except BulkWriteError as error:
                _replace(collection, [rows[index] for index in _taken(error)])

    def insert_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        """Inserts all documents in one request, and ignores those whose keys are taken."""
        rows = [row_of(key, document) for key, document in first_of_each(items).items()]
        if not rows:
            return
        with self._writing(table, fence) as collection:
            try:
                collection.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                _taken(error)

    @repeated
    def get(self, table: str, key: str) -> Document | None:
        """Reads by `_id`."""
        with self._reading(table) as collection:
            return collection.find_one({"_id": key}, _WITHOUT_KEY)

    @repeated
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
        """Sorts and limits on the server."""
        conditions = conditions_of(where)
        by = "_id" if order is None else check_field(order)
        if after is not None:
            conditions.setdefault(by, {})["$lt" if descending else "$gt"] = after
        way = DESCENDING if descending else ASCENDING
        with self._reading(table) as collection:
            if limit == 0:  # for MongoDB, 0 means no limit
                return []
            found = collection.find(conditions, _WITHOUT_KEY)
            return list(found.sort([(by, way)] if by == "_id" else [(by, way), ("_id", way)]).limit(limit or 0))

    @repeated
    def page(self, table: str, after: str = "", limit: int = 500) -> Sequence[tuple[str, Document]]:
        """Reads by `_id`."""
        with self._reading(table) as collection:
            found = collection.find({"_id": {"$gt": after}}).sort("_id", ASCENDING).limit(limit)
            return [(document.pop("_id"), document) for document in found]

    @repeated
    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int:
        """Counts on the server."""
        with self._reading(table) as collection:
            return collection.count_documents(conditions_of(where))

    @repeated
    def delete(self, table: str, where: Mapping[str, Any]) -> int:
        """Deletes in one operation."""
        with self._writing(table) as collection:
            return collection.delete_many(conditions_of(where)).deleted_count

    def acquire(self, holder: str, seconds: float, lapsed: str = "") -> Lease | HeldLease:
        """Reads the lease, and replaces it if it is still the one that was read."""
        with self._writing(LEASE_TABLE) as collection:
            for _ in range(_ATTEMPTS):
                held = _lease(collection)
                wanted = acquired(held, holder, seconds, lapsed, self._clock())
                if isinstance(wanted, HeldLease):
                    return wanted
                if _swap(collection, held, wanted):
                    return Lease(holder, wanted["epoch"])
        raise Transient("the lease changes its holder again and again", store=STORE)

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Extends the lease in one operation."""
        return self._change_lease(lease, {"expires": self._clock() + seconds, "seconds": seconds})

    def release(self, lease: Lease) -> None:
        """Clears holder and expiry; the epoch stays."""
        self._change_lease(lease, {"holder": "", "expires": 0.0})

    def version(self) -> str:
        """Returns the version of the server."""
        with self._translated():
            return str(self._client.server_info()["version"])

    def close(self) -> None:
        """Closes the pool of connections."""
        self._client.close()

    def _change_lease(self, lease: Lease, fields: Document) -> bool:
        with self._writing(LEASE_TABLE) as collection:
            ours = {"_id": LEASE_KEY, "holder": lease.holder, "epoch": lease.epoch}
            return collection.update_one(ours, {"$set": fields, "$inc": {"renewals": 1}}).matched_count > 0

    @contextmanager
    def _reading(self, table: str) -> Iterator[Collection[Document]]:
        with self._translated():
            yield self._database[check_table(table)]

    @contextmanager
    def _writing(self, table: str, fence: int | None = None) -> Iterator[Collection[Document]]:
        with self._reading(table) as reading:
            collection = reading.with_options(write_concern=self._agreed_concern())
            if table not in self._indexed:
                for fields in INDEXES.get(table, ()):
                    collection.create_index([(field, ASCENDING) for field in fields])
                self._indexed.add(table)
            if fence is not None and _lease(self._database[LEASE_TABLE])["epoch"] > fence:
                raise Fenced(f"another reducer holds the lease; epoch {fence} may not write to {table}")
            yield collection

    def _agreed_concern(self) -> WriteConcern:
        """Returns the write concern that the server accepts, determined once by a write that changes nothing."""
        with self._lock:
            if self._concern is None:
                try:
                    self._database[LEASE_TABLE].with_options(write_concern=_SAFE).delete_one({"_id": ""})
                    self._concern = _SAFE
                except OperationFailure as error:
                    if error.code != INVALID_OPTIONS:
                        raise
                    _LOG.warning(
                        "%s accepts no write concern: its default decides which writes survive a crash", self.where
                    )
                    self._concern = WriteConcern()
            return self._concern

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OperationFailure as error:
            code, reason = _fault(error)
            name = (error.details or {}).get("codeName")  # MongoDB's own, such as WriteConflict
            words = f"{self.where} refused with code {code}{f' ({name})' if name else ''}"
            if code in UNAUTHORIZED:
                raise ConfigError(f"{words}: see FEDN_MONGO_USER and FEDN_MONGO_PASSWORD") from error
            if code is None or code in PASSING or error.has_error_label("RetryableWriteError"):
                raise Transient(words, store=STORE) from error
            raise Refused(f"{words}: {reason}") from error
        except (BSONError, OverflowError, UnicodeEncodeError) as error:
            raise ProtocolError(f"not a record: {error}") from error
        except ServerSelectionTimeoutError as error:
            explained = tls.explain_certificate_text(str(error))
            if explained is not None:
                raise ConfigError(f"{self.where} {explained}") from error
            found, _, _ = str(error).partition(", Timeout:")[0].partition(" (configured timeouts")
            raise Transient(f"{self.where} is not reachable: {found}", store=STORE) from error
        except PyMongoError as error:
            raise Transient(f"{self.where} {fault(error)}", store=STORE) from error


def _fault(error: OperationFailure) -> tuple[int | None, str]:
    """Returns code and reason of an error; of a bulk write, which has none of its own, of the first but duplicates."""
    faults = error.details.get("writeErrors", ()) if isinstance(error, BulkWriteError) else ()
    own: Document = {"code": error.code, "errmsg": str(error)}
    found = next((fault for fault in faults if fault["code"] != DUPLICATE), own)
    return found["code"], found.get("errmsg", "")[:300]


def _replace(collection: Collection[Document], rows: list[Document]) -> None:
    writes = [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows]
    for _ in range(_ATTEMPTS):
        try:
            collection.bulk_write(writes)
            return
        except BulkWriteError as error:
            _taken(error)  # another writer inserted the same key meanwhile; the next attempt replaces it
    raise Transient(f"other writers insert the same keys of {collection.name} again and again", store=STORE)


def _taken(error: BulkWriteError) -> list[int]:
    """Returns the indexes of the rows whose key is present already. Raises the error if it has any other cause."""
    faults = error.details["writeErrors"]
    if not faults or any(fault["code"] != DUPLICATE for fault in faults):
        raise error
    return sorted(fault["index"] for fault in faults)


def _lease(collection: Collection[Document]) -> Document:
    return collection.find_one({"_id": LEASE_KEY}) or FREE


def _swap(collection: Collection[Document], held: Document, wanted: Document) -> bool:
    """Replaces the lease `held` by `wanted`. Returns False if the lease has changed meanwhile."""
    if "_id" in held:
        return collection.update_one(held, {"$set": wanted}).matched_count > 0
    try:
        collection.insert_one({"_id": LEASE_KEY, **wanted})
    except DuplicateKeyError:
        return False
    return True
