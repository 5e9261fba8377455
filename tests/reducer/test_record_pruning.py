"""Old events and attempts are deleted where a setting asks for it; what proves results is not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.records.sqlite import SqliteRecords
from fedmq.scheduler import VirtualScheduler
from fedmq_reducer.performers import record_pruning
from fedmq_reducer.performers.record_pruning import prune
from fedmq_reducer.system_monitor import FIRST_SECONDS, SystemMonitor
from fedmq_schemas import records as tables

LEDGER = (tables.ROUNDS, tables.MODELS, tables.PARTICIPATION, tables.VALIDATIONS, tables.SUMMARIES)


@pytest.fixture
def records() -> Iterator[SqliteRecords]:
    """Three sessions with two attempts each: one ended at 20, one at 200, and one that runs since 10."""
    found = SqliteRecords(":memory:")
    for name, state, ended_at in (("old", "finished", 20.0), ("new", "failed", 200.0), ("open", "running", None)):
        found.put(tables.SESSIONS, name, {"session": name, "state": state, "ended_at": ended_at})
        for number in (1, 2):
            key = f"{name}/{number}"
            found.put(tables.ATTEMPTS, key, {"session": name, "created_at": 10.0 + number})
            found.put(tables.PARTIALS, key, {"session": name})
            found.put(tables.WINDOWS, key, {"session": name})
            found.put(tables.EVENTS, f"early-{key}", {"id": f"early-{key}", "session": name, "at": 10.0 + number})
            found.put(tables.EVENTS, f"late-{key}", {"id": f"late-{key}", "session": name, "at": 100.0 + number})
        for table in LEDGER:
            found.put(table, name, {"session": name, "at": 1.0, "created_at": 1.0})
    yield found
    found.close()


def _sessions(records: SqliteRecords, table: str) -> set[str]:
    return {each["session"] for each in records.find(table)}


def test_attempts_partials_and_windows_of_sessions_that_ended_before_are_deleted_and_others_stay(
    records: SqliteRecords,
) -> None:
    prune(records, 100.0)
    for table in (tables.ATTEMPTS, tables.PARTIALS, tables.WINDOWS):
        assert _sessions(records, table) == {"new", "open"}
    for table in (tables.SESSIONS, *LEDGER):
        assert _sessions(records, table) == {"old", "new", "open"}


def test_events_from_before_are_deleted_batch_by_batch(records: SqliteRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_pruning, "BATCH", 2)
    prune(records, 102.0)
    assert sorted(each["id"] for each in records.find(tables.EVENTS)) == ["late-new/2", "late-old/2", "late-open/2"]
    assert _sessions(records, tables.ATTEMPTS) == {"new", "open"}


def test_times_that_are_no_numbers_neither_stay_in_the_way_nor_are_looked_for_for_ever(
    records: SqliteRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_pruning, "BATCH", 2)
    for number in range(5):
        records.put(tables.EVENTS, f"odd-{number}", {"id": f"odd-{number}", "session": None, "at": -math.inf})
    prune(records, 1000.0)
    assert {each["id"][:3] for each in records.find(tables.EVENTS)} == {"odd"}


def test_a_repetition_deletes_nothing_more(records: SqliteRecords) -> None:
    prune(records, 100.0)
    before = {table: list(records.find(table)) for table in tables.TABLES}
    prune(records, 100.0)
    assert {table: list(records.find(table)) for table in tables.TABLES} == before


@pytest.mark.parametrize(("before", "left"), [(None, 12), (10.0, 12), (100.0, 6), (1000.0, 0)])
def test_the_monitor_deletes_at_the_age_that_is_set_and_by_default_nothing(
    records: SqliteRecords, before: float | None, left: int
) -> None:
    scheduler = VirtualScheduler()
    looks_at = scheduler.wall() + FIRST_SECONDS
    monitor = SystemMonitor(
        scheduler,
        records,
        MemoryBlobs(),
        list,
        folder=None,
        is_active=lambda: True,
        record_seconds=None if before is None else looks_at - before,
    )
    monitor.start()
    scheduler.run(limit=scheduler.now() + FIRST_SECONDS)
    assert records.count(tables.EVENTS) == left
