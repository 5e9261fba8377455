"""Records in a SQLite file that another process may be writing, or has written: read only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

from fedmq.errors import ConfigError, Refused, Transient
from fedmq.records.documents import check_table
from fedmq.records.sqlite import BUSY_SECONDS, SqliteRecords, translated
from fedmq_schemas import records as tables


class SqliteReader(SqliteRecords):
    """The reading half of the `Records` port, on a file of `SqliteRecords`. Methods that write raise `Refused`.

    Changes no record, and neither blocks nor delays a writer. Each call opens a connection of its own: a writer that ends
    meanwhile finds no other connection, and removes its write-ahead log. A file without a log has no writer. It is opened
    as immutable, because SQLite would otherwise leave an empty log beside it. A table that does not exist yet is empty.

    Raises `ConfigError` if the file can't be read or is not a database, and `Transient` if a writer begins during a call.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._file = path.absolute()
        self._log = self._file.with_name(f"{path.name}-wal")
        if not os.access(path, os.R_OK):
            raise ConfigError(f"can't read records in {path}: there is no such file, or no permission")
        self.count(tables.SESSIONS)

    def close(self) -> None:
        """Does nothing: no connection stays open."""

    @contextmanager
    def _reading(self, table: str) -> Iterator[sqlite3.Connection]:
        check_table(table)
        before = self._stamp()
        access = "mode=ro" if before is None else "mode=ro&immutable=1"
        with translated(self._path), closing(self._connected(access)) as db:
            try:
                if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is None:
                    db.execute(f"CREATE TEMP TABLE {table} (key TEXT PRIMARY KEY, document TEXT NOT NULL)")
                yield db
            finally:
                if before is not None and self._stamp() != before:
                    raise Transient(f"records in {self._path}: a writer has just begun, try again")

    def _connected(self, access: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self._file.as_uri()}?{access}", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _stamp(self) -> tuple[int, int] | None:
        """Returns time and size of a file without a log, None if there is a log, thus perhaps a writer."""
        if self._log.exists():
            return None
        try:
            status = self._file.stat()
        except OSError as error:
            raise Transient(f"records in {self._path}: {error.strerror}") from error
        return status.st_mtime_ns, status.st_size

    def _writing(self, table: str, fence: int | None = None) -> NoReturn:
        raise Refused(f"records in {self._path} are only read here: nothing is written to {table}")
