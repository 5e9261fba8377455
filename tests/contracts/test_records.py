"""The contract of the record port, on every adapter."""

import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fedmq.errors import ConfigError, Fenced, NotFound, ProtocolError, Transient
from fedmq.records.base import Lease, Records
from fedmq.records.documents import LEASE_TABLE
from fedmq.records.mongo import MongoRecords
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas.records import TABLES
from support.servers.mongo import MongoServer

T = TypeVar("T")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


ADAPTERS = ["sqlite-memory", "sqlite-file", "sqlite-fsync", pytest.param("mongo", marks=pytest.mark.system)]


@pytest.fixture(params=ADAPTERS)
def records(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Records]:
    records: Records
    if request.param == "mongo":
        records = open_mongo(request.getfixturevalue("mongo_server"), clock)
    else:
        path = ":memory:" if request.param == "sqlite-memory" else tmp_path / "records.db"
        records = SqliteRecords(path, fsync=request.param == "sqlite-fsync", clock=clock)
    yield records
    records.close()


def open_mongo(server: MongoServer, clock: Clock) -> MongoRecords:
    """A store that is empty, whatever the tests before put there."""
    records = MongoRecords(server.host, server.port, "test", clock=clock)
    for table in (*TABLES, LEASE_TABLE):
        if records.count(table):
            records.delete(table, {})
    return records


def patiently(call: Callable[[], T]) -> T:
    """What everybody does who meets `Transient`: the call again, a little later."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return call()
        except Transient:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def ids(documents: Any) -> list[Any]:
    return [document["id"] for document in documents]


@pytest.fixture
def filled(records: Records) -> Records:
    rows: list[tuple[str, str, int, dict[str, Any]]] = [
        ("e", "a", 3, {"kind": "x"}),
        ("d", "a", 1, {"kind": "y"}),
        ("c", "b", 2, {"kind": "x"}),
        ("b", "b", 2, {}),
        ("a", "c", 5, {"kind": None}),
    ]
    for key, session, at, data in rows:
        records.put("events", key, {"id": key, "session": session, "at": at, "data": data})
    return records


def test_a_document_comes_back_as_it_was_put(records: Records) -> None:
    document = {
        "text": 'größe "quoted" \\ \n 日本',
        "empty": "",
        "integer": 2**53 + 1,
        "large": 2**63 - 1,
        "negative": -(2**63),
        "float": 0.1,
        "tiny": 5e-324,
        "whole": 2.0,
        "yes": True,
        "no": False,
        "nothing": None,
        "list": [1, "a", [None, {"b": []}]],
        "object": {"test/accuracy": 0.5, "dotted.name": {"$dollar": 1}, "": 0},
    }
    records.put("models", "m", document)
    found = records.get("models", "m")
    assert found == document
    assert found is not None
    assert list(found) == list(document)
    assert [type(found[name]) for name in ("whole", "yes", "no")] == [float, bool, bool]


def test_numbers_that_json_lacks_come_back_too(records: Records) -> None:
    data = {"loss": math.nan, "norms": [math.inf, -math.inf], "says": "NaN, -Infinity"}
    records.put("events", "e", {"id": "e", "data": data})
    found = records.get("events", "e")
    assert found is not None
    assert math.isnan(found["data"]["loss"])
    assert found["data"]["norms"] == [math.inf, -math.inf]
    assert found["data"]["says"] == "NaN, -Infinity"
    assert ids(records.find("events", {"id": "e"})) == ["e"]


def test_tuples_come_back_as_lists(records: Records) -> None:
    records.put("sessions", "s", {"tasks": ("train", "validate")})
    assert records.get("sessions", "s") == {"tasks": ["train", "validate"]}


def test_what_is_absent_is_none_empty_and_zero(records: Records) -> None:
    assert records.get("sessions", "s") is None
    assert list(records.find("sessions")) == []
    assert records.count("sessions") == 0
    assert records.delete("sessions", {}) == 0


def test_insert_tells_none_and_then_what_is_already_there(records: Records) -> None:
    assert records.insert("rounds", "s/1", {"model": "first"}) is None
    assert records.insert("rounds", "s/1", {"model": "second"}) == {"model": "first"}
    assert records.get("rounds", "s/1") == {"model": "first"}
    assert records.count("rounds") == 1


def test_of_many_who_insert_the_same_key_one_wins_and_all_hear_who(records: Records) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: patiently(lambda: records.insert("rounds", "s/1", {"by": n})), range(24)))
    winner = records.get("rounds", "s/1")
    assert winner is not None
    assert answers[winner["by"]] is None
    assert [answer for answer in answers if answer is not None] == [winner] * 23


def test_put_replaces_the_whole_document(records: Records) -> None:
    records.put("clients", "c", {"state": "idle", "ordinal": 1})
    records.put("clients", "c", {"state": "gone"})
    assert records.get("clients", "c") == {"state": "gone"}


def test_update_sets_top_level_fields_only(records: Records) -> None:
    records.put("clients", "c", {"state": "idle", "labels": {"site": "north", "kind": "mri"}, "ordinal": 1})
    records.update("clients", "c", {"labels": {"site": "south"}, "seen": math.inf, "ordinal": None})
    assert records.get("clients", "c") == {
        "state": "idle",
        "labels": {"site": "south"},
        "seen": math.inf,
        "ordinal": None,
    }


def test_an_update_of_an_absent_key_is_not_found(records: Records) -> None:
    for fields in ({"state": "idle"}, {}):
        with pytest.raises(NotFound, match="nobody"):
            records.update("clients", "nobody", fields)
    assert records.get("clients", "nobody") is None


def test_updates_side_by_side_lose_nothing(records: Records) -> None:
    records.put("clients", "c", {})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: patiently(lambda: records.update("clients", "c", {f"field{n}": n})), range(24)))
    assert records.get("clients", "c") == {f"field{n}": n for n in range(24)}


def test_many_are_put_at_once_and_replace(records: Records) -> None:
    records.put("events", "e1", {"at": 0, "id": "old"})
    records.put_many("events", ((f"e{n}", {"at": n, "id": n}) for n in range(200)))
    records.put_many("events", [])
    assert records.count("events") == 200
    assert records.get("events", "e1") == {"at": 1, "id": 1}
    records.put_many("events", [("a\0b", {"id": "a\0b"}), ("a\0c", {"id": "\\u0000"})])
    assert [document["id"] for key in ("a\0b", "a\0c") if (document := records.get("events", key))] == [
        "a\0b",
        "\\u0000",
    ]
    records.put_many("events", [("same", {"id": 1}), ("same", {"id": 2})])
    assert records.get("events", "same") == {"id": 2}


def test_many_are_inserted_at_once_and_the_first_of_each_key_stays(records: Records) -> None:
    records.put("events", "e1", {"at": 0, "id": "old"})
    records.insert_many("events", ((f"e{n}", {"at": n, "id": n}) for n in range(200)))
    records.insert_many("events", [])
    assert records.count("events") == 200
    assert records.get("events", "e1") == {"at": 0, "id": "old"}
    assert records.get("events", "e2") == {"at": 2, "id": 2}
    records.insert_many("events", [("a\0b", {"id": "a\0b"}), ("a\0b", {"id": "second"}), ("a\0c", {"id": "\\u0000"})])
    assert [document["id"] for key in ("a\0b", "a\0c") if (document := records.get("events", key))] == [
        "a\0b",
        "\\u0000",
    ]
    records.insert_many("events", [("same", {"id": 1}), ("same", {"id": 2})])
    records.insert_many("events", [("same", {"id": 3}), ("other", {"id": 4})])
    assert (records.get("events", "same"), records.get("events", "other")) == ({"id": 1}, {"id": 4})


def test_find_and_count_by_equal_fields(filled: Records) -> None:
    assert ids(filled.find("events")) == ["a", "b", "c", "d", "e"]
    assert ids(filled.find("events", {"session": "a"})) == ["d", "e"]
    assert ids(filled.find("events", {"session": "b", "at": 2, "data.kind": "x"})) == ["c"]
    assert ids(filled.find("events", {"session": "none"})) == []
    assert filled.count("events", {"session": "a"}) == 2
    assert filled.count("events") == 5


def test_a_list_means_any_of(filled: Records) -> None:
    assert ids(filled.find("events", {"session": ["a", "c"]})) == ["a", "d", "e"]
    assert ids(filled.find("events", {"session": ("b", "c"), "at": [2, 3]})) == ["b", "c"]
    assert ids(filled.find("events", {"session": []})) == []
    assert filled.count("events", {"data.kind": ["x", "y"]}) == 3


def test_none_matches_none_and_absent(filled: Records) -> None:
    assert ids(filled.find("events", {"data.kind": None})) == ["a", "b"]


def test_find_in_order_of_a_field_and_then_of_the_key(filled: Records) -> None:
    assert ids(filled.find("events", order="at")) == ["d", "b", "c", "e", "a"]
    assert ids(filled.find("events", order="at", descending=True)) == ["a", "e", "c", "b", "d"]
    assert ids(filled.find("events", order="at", limit=2)) == ["d", "b"]
    assert ids(filled.find("events", descending=True, limit=2)) == ["e", "d"]


def test_find_goes_on_after_a_value(filled: Records) -> None:
    assert ids(filled.find("events", order="at", after=2)) == ["e", "a"]
    assert ids(filled.find("events", order="at", descending=True, after=3)) == ["c", "b", "d"]
    assert ids(filled.find("events", after="c")) == ["d", "e"]
    assert ids(filled.find("events", {"session": ["a", "b"]}, descending=True, after="d", limit=1)) == ["c"]
    assert ids(filled.find("events", order="at", after=0, limit=0)) == []


def test_delete_tells_how_many(filled: Records) -> None:
    assert filled.delete("events", {"session": "b"}) == 2
    assert filled.delete("events", {"session": "b"}) == 0
    assert ids(filled.find("events")) == ["a", "d", "e"]
    assert filled.delete("events", {}) == 3
    assert filled.count("events") == 0


def test_tables_are_apart(records: Records) -> None:
    records.put("models", "k", {"in": "models"})
    records.put("rounds", "k", {"in": "rounds"})
    assert records.delete("models", {}) == 1
    assert records.get("rounds", "k") == {"in": "rounds"}


@pytest.mark.parametrize("name", ["", "Models", "a b", "x; DROP TABLE models", "a.b", "a$"])
def test_a_malformed_table_is_refused(records: Records, name: str) -> None:
    with pytest.raises(ProtocolError, match="table"):
        records.put(name, "k", {})
    with pytest.raises(ProtocolError, match="table"):
        records.find(name)


@pytest.mark.parametrize("name", ["", "a b", "x'--", 'x"', "a..b", "$where"])
def test_a_malformed_field_is_refused(records: Records, name: str) -> None:
    with pytest.raises(ProtocolError, match="field"):
        records.find("models", {name: 1})
    with pytest.raises(ProtocolError, match="field"):
        records.find("models", order=name)


def test_what_is_no_document_is_refused(records: Records) -> None:
    for document in ({"x": object()}, {"_id": "other"}):
        with pytest.raises(ProtocolError):
            records.put("models", "k", document)
    assert records.get("models", "k") is None


@pytest.mark.parametrize("name", ["data.loss", "_id", "$set", ""])
def test_an_update_names_top_level_fields(records: Records, name: str) -> None:
    records.put("models", "k", {"data": {"loss": 1}})
    with pytest.raises(ProtocolError):
        records.update("models", "k", {name: 2})
    assert records.get("models", "k") == {"data": {"loss": 1}}


def test_the_lease_is_held_by_one(records: Records) -> None:
    assert records.acquire("one", 10) == Lease("one", 1)
    assert records.acquire("two", 10) is None
    assert records.acquire("one", 10) == Lease("one", 1)


def test_an_expired_lease_goes_to_the_next_with_a_higher_epoch(records: Records, clock: Clock) -> None:
    first = records.acquire("one", 10)
    assert first is not None
    clock.now += 9.9
    assert records.acquire("two", 10) is None
    clock.now += 0.1
    assert records.acquire("two", 10) == Lease("two", 2)
    assert not records.renew(first, 10)
    assert records.acquire("one", 10) is None
    clock.now += 10
    assert records.acquire("one", 10) == Lease("one", 3)


def test_renewing_keeps_the_lease_even_after_it_expired_untaken(records: Records, clock: Clock) -> None:
    lease = records.acquire("one", 10)
    assert lease is not None
    for _ in range(3):
        clock.now += 8
        assert records.renew(lease, 10)
    clock.now += 60
    assert records.renew(lease, 10)
    assert records.acquire("two", 10) is None


def test_a_released_lease_is_free_at_once_and_its_epoch_never_comes_again(records: Records) -> None:
    lease = records.acquire("one", 10)
    assert lease is not None
    records.release(lease)
    assert not records.renew(lease, 10)
    assert records.acquire("one", 10) == Lease("one", 2)
    records.release(lease)
    assert records.acquire("two", 10) is None


def test_of_many_who_want_the_lease_one_has_it(records: Records) -> None:
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda n: patiently(lambda: records.acquire(f"holder{n}", 10)), range(16)))
    assert [lease.epoch for lease in leases if lease is not None] == [1]


def test_of_many_who_want_an_expired_lease_one_has_it(records: Records, clock: Clock) -> None:
    assert records.acquire("first", 10) == Lease("first", 1)
    clock.now += 10
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda n: patiently(lambda: records.acquire(f"holder{n}", 10)), range(16)))
    assert [lease.epoch for lease in leases if lease is not None] == [2]


def test_a_fenced_writer_changes_nothing(records: Records, clock: Clock) -> None:
    records.put("rounds", "s/1", {"by": "old"})
    old = records.acquire("old", 10)
    clock.now += 10
    new = records.acquire("new", 10)
    assert old is not None and new is not None
    with pytest.raises(Fenced):
        records.insert("rounds", "s/2", {"by": "old"}, fence=old.epoch)
    with pytest.raises(Fenced):
        records.put("rounds", "s/1", {"by": "zombie"}, fence=old.epoch)
    with pytest.raises(Fenced):
        records.update("rounds", "s/1", {"by": "zombie"}, fence=old.epoch)
    with pytest.raises(Fenced):
        records.put_many("rounds", [("s/1", {"by": "zombie"}), ("s/3", {"by": "zombie"})], fence=old.epoch)
    with pytest.raises(Fenced):
        records.insert_many("rounds", [("s/3", {"by": "zombie"})], fence=old.epoch)
    assert ids({"id": d["by"]} for d in records.find("rounds")) == ["old"]
    assert records.insert("rounds", "s/2", {"by": "new"}, fence=new.epoch) is None
    records.put("rounds", "s/1", {"by": "new"}, fence=new.epoch)
    records.update("rounds", "s/1", {"again": True}, fence=new.epoch)
    assert records.get("rounds", "s/1") == {"by": "new", "again": True}


def test_without_a_lease_on_record_a_fence_lets_through(records: Records) -> None:
    records.put("rounds", "s/1", {"by": "first"}, fence=1)
    assert records.count("rounds") == 1


def test_close_is_idempotent(records: Records) -> None:
    records.close()
    records.close()


# What only SQLite shows.


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


def test_what_a_write_reads_before_it_writes_stays_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq.records.sqlite._BUSY_SECONDS", 0.01)
    one, other = (SqliteRecords(tmp_path / "records.db") for _ in range(2))
    other.put("models", "m", {})
    with one._writing("models"), pytest.raises(Transient, match="locked"):
        other.put("models", "m", {})
    one.close()
    other.close()


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


def test_questions_that_readers_ask_often_use_an_index(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    records = SqliteRecords(path)
    records.put("events", "e", {"session": "s", "at": 1.0})
    asked: list[str] = []
    records._db.set_trace_callback(asked.append)
    records.find("events", {"session": "s"}, order="at")
    records._db.set_trace_callback(None)
    [plan] = [row[3] for row in records._db.execute(f"EXPLAIN QUERY PLAN {asked[-1]}") if "events" in row[3]]
    assert "USING INDEX" in plan
    records.close()


def test_a_lock_that_somebody_keeps_is_transient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq.records.sqlite._BUSY_SECONDS", 0.01)
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


def test_a_file_that_is_no_database_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"not a database at all, just text" * 100)
    with pytest.raises(ConfigError, match=r"records\.db"):
        SqliteRecords(tmp_path / "records.db").put("models", "m", {})
    with pytest.raises(ConfigError):
        SqliteRecords(tmp_path)


# What only MongoDB shows.


@pytest.mark.system
def test_the_store_is_transient_while_its_server_is_down_and_works_again_after(
    mongo_server: MongoServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmq.records.mongo.SELECTION_SECONDS", 0.2)
    records = open_mongo(mongo_server, clock)
    records.put("models", "m", {"a": 1})
    lease = records.acquire("one", 10)
    assert lease is not None
    mongo_server.kill()
    try:
        calls: list[Callable[[], Any]] = [
            lambda: records.insert("rounds", "s/1", {}),
            lambda: records.put("models", "m", {"a": 2}),
            lambda: records.put_many("models", [("m", {"a": 2})]),
            lambda: records.insert_many("models", [("n", {"a": 2})]),
            lambda: records.update("models", "m", {"a": 2}),
            lambda: records.get("models", "m"),
            lambda: records.find("models"),
            lambda: records.count("models"),
            lambda: records.delete("models", {}),
            lambda: records.acquire("two", 10),
            lambda: records.renew(lease, 10),
        ]
        for call in calls:
            with pytest.raises(Transient, match="MongoDB"):
                call()
    finally:
        mongo_server.start()
    assert patiently(lambda: records.get("models", "m")) == {"a": 1}
    assert records.renew(lease, 10)
    records.close()


@pytest.mark.system
def test_a_lease_that_is_taken_between_reading_and_writing_it_is_noticed(
    mongo_server: MongoServer, clock: Clock
) -> None:
    faster = open_mongo(mongo_server, clock)
    faster.acquire("first", 10)
    clock.now += 10

    def meddling() -> float:  # the time is read in between
        faster.acquire("faster", 10)
        return clock.now

    slower = MongoRecords(mongo_server.host, mongo_server.port, "test", clock=meddling)
    assert slower.acquire("slower", 10) is None
    assert faster.acquire("faster", 10) == Lease("faster", 2)
    slower.close()
    faster.close()


@pytest.mark.system
def test_a_server_that_takes_no_write_concern_is_warned_of_once(
    mongo_server: MongoServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    records = open_mongo(mongo_server, clock)
    records.put("models", "a", {})
    records.put("models", "b", {})
    assert [message for message in caplog.messages if "write concern" in message] == [
        "MongoDB at 127.0.0.1 takes no write concern: its own decides what survives its death"
    ]
    records.close()


def test_account_and_members_reach_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    records = MongoRecords("a.example:1,b.example", 27018, "alliance", user="fedn_admin", password="hidden: @/%")
    options = records._client.options
    credentials = options.pool_options._credentials
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("fedn_admin", "hidden: @/%")
    assert credentials.source == "admin"
    assert records._client._topology_settings.seeds == {("a.example", 1), ("b.example", 27018)}
    assert records._database.name == "alliance"
    assert "hidden" not in repr(records)
    records.close()


def test_an_address_that_can_not_be_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="address"):
        MongoRecords("host:port", 1, "alliance")
