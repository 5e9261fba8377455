"""The contract of records in SQLite that are only read."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedmq.errors import ConfigError, Refused, Transient
from fedmq.records.sqlite import SqliteRecords
from fedmq.records.sqlite_reading import SqliteReader


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {each.name: (each.stat().st_size, each.stat().st_mtime_ns) for each in folder.iterdir()}


def _written(path: Path) -> SqliteRecords:
    records = SqliteRecords(path)
    for number in range(3):
        records.put("rounds", f"s/{number}", {"session": "s", "round": number})
    return records


def test_an_ended_writers_records_are_read_and_its_folder_stays_as_it_is(tmp_path: Path) -> None:
    _written(tmp_path / "records.db").close()
    before = _state(tmp_path)
    reader = SqliteReader(tmp_path / "records.db")
    assert [each["round"] for each in reader.find("rounds", {"session": "s"}, order="round", after=0)] == [1, 2]
    assert reader.get("rounds", "s/1") == {"session": "s", "round": 1}
    assert reader.count("rounds") == 3
    assert _state(tmp_path) == before


def test_what_a_writer_writes_meanwhile_is_read_and_its_log_is_gone_when_it_ends(tmp_path: Path) -> None:
    records = _written(tmp_path / "records.db")
    reader = SqliteReader(tmp_path / "records.db")
    assert reader.count("rounds") == 3
    records.put("rounds", "s/3", {"session": "s", "round": 3})
    assert reader.count("rounds") == 4
    records.close()
    assert [each.name for each in tmp_path.iterdir()] == ["records.db"]
    assert reader.count("rounds") == 4


def test_what_a_killed_writer_left_in_its_log_is_read(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom fedmq.records.sqlite import SqliteRecords\n"
        "SqliteRecords(sys.argv[1]).put('models', 'm', {'a': 1})\nos.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "records.db")], check=False)
    names = {each.name for each in tmp_path.iterdir()}
    assert SqliteReader(tmp_path / "records.db").get("models", "m") == {"a": 1}
    assert {each.name for each in tmp_path.iterdir()} == names


def test_a_table_that_nobody_has_written_is_empty(tmp_path: Path) -> None:
    _written(tmp_path / "records.db").close()
    reader = SqliteReader(tmp_path / "records.db")
    assert (list(reader.find("clients", order="client")), reader.count("clients")) == ([], 0)
    assert reader.get("clients", "c") is None


def test_a_reader_does_not_hold_up_a_writer(tmp_path: Path) -> None:
    records, done = _written(tmp_path / "records.db"), threading.Event()
    reader = SqliteReader(tmp_path / "records.db")

    def read() -> None:
        while not done.is_set():
            reader.find("rounds")

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(300):
        records.put("rounds", f"s/{number}", {"session": "s", "round": number})
    done.set()
    thread.join()
    assert reader.count("rounds") == 300
    records.close()


def test_a_writer_that_begins_during_a_read_makes_it_a_passing_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, connect = tmp_path / "records.db", sqlite3.connect
    _written(path).close()
    reader = SqliteReader(path)

    def late(*arguments: object, **options: object) -> sqlite3.Connection:
        opened: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        monkeypatch.undo()
        _written(path).close()
        return opened

    monkeypatch.setattr(sqlite3, "connect", late)
    with pytest.raises(Transient, match="a writer has just begun"):
        reader.count("rounds")
    assert reader.count("rounds") == 3


def test_nothing_is_written(tmp_path: Path) -> None:
    _written(tmp_path / "records.db").close()
    reader = SqliteReader(tmp_path / "records.db")
    with pytest.raises(Refused, match="only read here"):
        reader.put("rounds", "s/9", {})
    with pytest.raises(Refused, match="only read here"):
        reader.acquire("me", 5.0)


def test_what_is_no_file_of_records_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file, or no permission"):
        SqliteReader(tmp_path / "records.db")
    (tmp_path / "records.db").write_text("these are no records, but a text of some length\n" * 9)
    with pytest.raises(ConfigError, match="not a database"):
        SqliteReader(tmp_path / "records.db")
