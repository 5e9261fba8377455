"""Records in one SQLite file: the embedded store, for one machine.

Each table is `(key TEXT PRIMARY KEY, document TEXT)` with the document as JSON. Indexes on expressions cover the frequent
queries.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedmq.errors import ConfigError, Fenced, NotFound, Transient
from fedmq.lease import HeldLease
from fedmq.records.base import STORE, Document, Lease
from fedmq.records.documents import (
    FREE,
    LEASE_KEY,
    LEASE_TABLE,
    acquired,
    check_field,
    check_fields,
    check_table,
    from_text,
    to_text,
)
from fedmq_schemas.records import INDEXES

BUSY_SECONDS = 5.0


class SqliteRecords:
    """The `Records` port on SQLite.

    Safe across threads, by one connection behind a lock. Safe across processes, by the write-ahead log; a lock that another
    process holds for more than 5 s raises `Transient`. `path` may be `:memory:`. With `fsync`, a write is on disk when it
    returns. Without, it survives the death of the process, but perhaps not of the machine. `clock` returns
    wall-clock seconds, for the field `expires` of the lease.

    Raises `ConfigError` if the file can't be opened or is not a database.
    """

    def __init__(self, path: Path | str, fsync: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._path = str(path)
        self.where = f"records in {self._path}"
        self._clock = clock
        self._lock = threading.RLock()
        self._known: set[str] = set()
        try:
            if self._path != ":memory:":
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as on_failure:
                self._db = sqlite3.connect(
                    self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                on_failure.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
                on_failure.pop_all()
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise Transient(f"{self.where}: {error}", store=STORE) from error
            raise ConfigError(f"can't keep records in {self._path}: {error}") from error

    def insert(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> Document | None:
        """Reads and inserts in one transaction."""
        with self._writing(table, fence) as db:
            row = db.execute(f"SELECT document FROM {table} WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return from_text(row[0])
            db.execute(f"INSERT INTO {table} VALUES (?, ?)", (key, to_text(document)))
        return None

    def put(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> None:
        """Inserts or replaces in one statement."""
        with self._writing(table, fence) as db:
            db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, to_text(document)))

    def update(self, table: str, key: str, fields: Mapping[str, Any], fence: int | None = None) -> None:
        """Reads and replaces the document in one transaction."""
        check_fields(fields)
        with self._writing(table, fence) as db:
            row = db.execute(f"SELECT document FROM {table} WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise NotFound(f"there is no {key} in {table}")
            text = to_text({**from_text(row[0]), **fields})
            db.execute(f"UPDATE {table} SET document = ? WHERE key = ?", (text, key))

    def put_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        """Writes all documents in one transaction."""
        self._write_many(table, items, fence, "REPLACE")

    def insert_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        """Writes all documents in one transaction."""
        self._write_many(table, items, fence, "IGNORE")

    def _write_many(
        self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None, conflict: str
    ) -> None:
        rows = [(key, to_text(document)) for key, document in items]
        with self._writing(table, fence) as db:
            db.executemany(f"INSERT OR {conflict} INTO {table} VALUES (?, ?)", rows)

    def get(self, table: str, key: str) -> Document | None:
        """Reads by primary key."""
        with self._reading(table) as db:
            row = db.execute(f"SELECT document FROM {table} WHERE key = ?", (key,)).fetchone()
        return None if row is None else from_text(row[0])

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
        """Compares and orders by the fields of the JSON text."""
        condition, values = _conditions(where)
        by = "key" if order is None else _field(order)
        way = "DESC" if descending else "ASC"
        if after is not None:
            condition += f" AND {by} {'<' if descending else '>'} ?"
            values.append(after)
        values.append(-1 if limit is None else limit)
        with self._reading(table) as db:
            rows = db.execute(
                f"SELECT document FROM {table} WHERE {condition} ORDER BY {by} {way}, key {way} LIMIT ?", values
            ).fetchall()
        return [from_text(row[0]) for row in rows]

    def page(self, table: str, after: str = "", limit: int = 500) -> Sequence[tuple[str, Document]]:
        """Reads by primary key."""
        with self._reading(table) as db:
            rows = db.execute(
                f"SELECT key, document FROM {table} WHERE key > ? ORDER BY key LIMIT ?", (after, limit)
            ).fetchall()
        return [(key, from_text(text)) for key, text in rows]

    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int:
        """Counts in one statement."""
        condition, values = _conditions(where)
        with self._reading(table) as db:
            count: int = db.execute(f"SELECT count(*) FROM {table} WHERE {condition}", values).fetchone()[0]
        return count

    def delete(self, table: str, where: Mapping[str, Any]) -> int:
        """Deletes in one transaction."""
        condition, values = _conditions(where)
        with self._writing(table) as db:
            return db.execute(f"DELETE FROM {table} WHERE {condition}", values).rowcount

    def acquire(self, holder: str, seconds: float, lapsed: str = "") -> Lease | HeldLease:
        """Reads and replaces the lease in one transaction."""
        with self._writing(LEASE_TABLE) as db:
            wanted = acquired(self._lease(db), holder, seconds, lapsed, self._clock())
            if isinstance(wanted, HeldLease):
                return wanted
            self._put_lease(db, wanted)
            return Lease(holder, wanted["epoch"])

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Extends the lease in one transaction."""
        return self._change_lease(lease, {"expires": self._clock() + seconds, "seconds": seconds})

    def release(self, lease: Lease) -> None:
        """Clears holder and expiry; the epoch stays."""
        self._change_lease(lease, {"holder": "", "expires": 0.0})

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._db.close()

    def _change_lease(self, lease: Lease, fields: Document) -> bool:
        with self._writing(LEASE_TABLE) as db:
            held = self._lease(db)
            if (held["holder"], held["epoch"]) != (lease.holder, lease.epoch):
                return False
            self._put_lease(db, {**held, **fields, "renewals": held.get("renewals", 0) + 1})
            return True

    def _lease(self, db: sqlite3.Connection) -> Document:
        row = db.execute(f"SELECT document FROM {LEASE_TABLE} WHERE key = ?", (LEASE_KEY,)).fetchone()
        return FREE if row is None else from_text(row[0])

    def _put_lease(self, db: sqlite3.Connection, document: Document) -> None:
        db.execute(f"INSERT OR REPLACE INTO {LEASE_TABLE} VALUES (?, ?)", (LEASE_KEY, to_text(document)))

    @contextmanager
    def _reading(self, table: str) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self._path):
            self._ensure(table)
            yield self._db

    @contextmanager
    def _writing(self, table: str, fence: int | None = None) -> Iterator[sqlite3.Connection]:
        """Holds the write lock from the start of the transaction, so that nothing it has read can change before its end."""
        with self._reading(table) as db:
            if fence is not None:
                self._ensure(LEASE_TABLE)
            db.execute("BEGIN IMMEDIATE")
            try:
                if fence is not None and self._lease(db)["epoch"] > fence:
                    raise Fenced(f"another reducer holds the lease; epoch {fence} may not write to {table}")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _ensure(self, table: str) -> None:
        if table in self._known:
            return
        check_table(table)
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, document TEXT NOT NULL)")
        for fields in INDEXES.get(table, ()):
            name = f'"{table}_{"_".join(fields)}"'
            columns = ", ".join(_field(field) for field in fields)
            self._db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({columns})")
        self._known.add(table)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Translates SQLite's errors in the block: into Transient for what may pass, else into ConfigError."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, disk full, I/O error
        raise Transient(f"records in {path}: {error}", store=STORE) from error
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"records in {path}: {error}") from error


def _field(name: str) -> str:
    """Returns the SQL expression of a field. SQLite uses an index only if the query has exactly the same text."""
    path = ".".join(f'"{part}"' for part in check_field(name).split("."))
    return f"json_extract(document, '$.{path}')"


def _conditions(where: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    for name, wanted in (where or {}).items():
        if isinstance(wanted, (list, tuple)):
            terms.append(f"{_field(name)} IN ({', '.join('?' * len(wanted))})")
            values.extend(wanted)
        else:
            terms.append(f"{_field(name)} IS ?")
            values.append(wanted)
    return " AND ".join(terms) or "TRUE", values
