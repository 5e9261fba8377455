"""The contract of records in SQLite, beyond the port."""

import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fedmq.errors import ConfigError, Transient
from fedmq.records.sqlite import SqliteRecords


def test_another_process_reads_and_writes_the_same_file(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom fedmq.records.sqlite import SqliteRecords\n"
        "records = SqliteRecords(sys.argv[1])\n"
        "for n in range(50): records.insert('events', f'{sys.argv[2]}-{n}', {'n': n})\n"
    )
    path = tmp_path / "records.db"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "abc"]
    records = SqliteRecords(path)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert records.count("events") == 150
    records.close()


def test_updates_over_two_connections_lose_nothing(tmp_path: Path) -> None:
    both = [SqliteRecords(tmp_path / "records.db") for _ in range(2)]
    both[0].put("clients", "c", {})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: both[n % 2].update("clients", "c", {f"field{n}": n}), range(200)))
    assert both[1].get("clients", "c") == {f"field{n}": n for n in range(200)}
    for records in both:
        records.close()


def test_what_a_killed_process_had_put_is_there(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom fedmq.records.sqlite import SqliteRecords\n"
        "SqliteRecords(sys.argv[1]).put('models', 'm', {'a': 1})\nos.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "new" / "records.db"
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    records = SqliteRecords(path)
    assert records.get("models", "m") == {"a": 1}
    records.close()


def test_frequent_queries_use_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, asked = sqlite3.connect, list[str]()

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(asked.append)
        return connection

    path = tmp_path / "records.db"
    monkeypatch.setattr(sqlite3, "connect", traced)
    records = SqliteRecords(path)
    records.put("events", "e", {"session": "s", "at": 1.0})
    records.find("events", {"session": "s"}, order="at")
    other = connect(path)
    [plan] = [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {asked[-1]}") if "events" in row[3]]
    assert "USING INDEX" in plan
    other.close()
    records.close()


def test_a_lock_that_somebody_keeps_is_transient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq.records.sqlite.BUSY_SECONDS", 0.01)
    records = SqliteRecords(tmp_path / "records.db")
    records.put("models", "m", {"a": 1})
    other = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # which in WAL mode lets others read
    with pytest.raises(Transient, match="locked"):
        records.put("models", "m", {"a": 2})
    assert records.get("models", "m") == {"a": 1}
    other.execute("ROLLBACK")
    records.put("models", "m", {"a": 2})
    other.close()
    records.close()


def test_a_file_that_is_no_database_is_a_fault_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def recorded(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", recorded)
    (tmp_path / "records.db").write_bytes(b"not a database at all, just text" * 100)
    with pytest.raises(ConfigError, match=r"records\.db"):
        SqliteRecords(tmp_path / "records.db").put("models", "m", {})
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
    with pytest.raises(ConfigError):
        SqliteRecords(tmp_path)


def test_a_document_of_an_older_version_that_looks_like_a_mark_and_is_none_can_be_read(tmp_path: Path) -> None:
    """Older versions wrote NaN as `{"$float": "nan"}`, and a client's own map of this form as it was."""
    records = SqliteRecords(tmp_path / "records.db")
    records.put("events", "e", {})
    text = '{"a": {"$float": "x"}, "b": {"$float": "-inf"}, "c": {"$float": [1, 2]}}'
    with closing(sqlite3.connect(tmp_path / "records.db")) as db, db:
        db.execute("UPDATE events SET document = ?", (text,))
    assert records.get("events", "e") == {"a": {"$float": "x"}, "b": -math.inf, "c": {"$float": [1, 2]}}
    records.close()


def test_the_store_names_where_its_records_are(tmp_path: Path) -> None:
    """A reducer that keeps its records in SQLite, as the benchmarks' do, ended at its start without this."""
    with closing(SqliteRecords(tmp_path / "records.db")) as records:
        assert str(tmp_path / "records.db") in records.where
