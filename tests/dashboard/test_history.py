"""Bounded reads of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmq.records.base import Document
from fedmq.records.sqlite import SqliteRecords
from fedmq_dashboard.history import KEPT_SESSIONS, History
from fedmq_schemas import keys
from fedmq_schemas import records as tables


class Counting(SqliteRecords):
    """Tells how many documents were read."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.read = 0

    def find(self, table: str, where: Mapping[str, Any] | None = None, **options: Any) -> Sequence[Document]:
        found = super().find(table, where, **options)
        self.read += len(found)
        return found


def put_session(records: SqliteRecords, name: str, state: str, at: float) -> None:
    records.put(tables.SESSIONS, name, {"session": name, "state": state, "created_at": at, "seed": "seed"})


def put_round(records: SqliteRecords, session: str, number: int) -> None:
    records.put(tables.ROUNDS, keys.round_record(session, number), {"session": session, "round": number})


def test_the_running_session_is_shown_before_newer_ones() -> None:
    records = SqliteRecords(":memory:")
    history = History(records)
    assert history.session(None) is None
    put_session(records, "old", "finished", 1.0)
    put_session(records, "runs", "running", 2.0)
    put_session(records, "next", "queued", 3.0)
    found = history.session(None)
    assert found is not None and found["session"] == "runs"


def test_without_a_running_one_the_newest_session_is_shown() -> None:
    records = SqliteRecords(":memory:")
    put_session(records, "old", "finished", 1.0)
    put_session(records, "new", "failed", 2.0)
    found = History(records).session(None)
    assert found is not None and found["session"] == "new"


def test_a_session_that_is_named_and_unknown_is_none() -> None:
    records = SqliteRecords(":memory:")
    put_session(records, "old", "finished", 1.0)
    assert History(records).session("other") is None


def test_committed_rounds_are_read_once() -> None:
    records = Counting()
    history = History(records)
    for number in (1, 2, 3):
        put_round(records, "s", number)
    assert [document["round"] for document in history.rounds("s")] == [1, 2, 3]
    put_round(records, "s", 4)
    assert [document["round"] for document in history.rounds("s")] == [1, 2, 3, 4]
    history.rounds("s")
    assert records.read == 4


def test_only_a_few_sessions_are_remembered() -> None:
    records = Counting()
    history = History(records)
    names = [f"s{number}" for number in range(KEPT_SESSIONS + 1)]
    for name in names:
        put_round(records, name, 1)
        history.rounds(name)
    read = records.read
    history.rounds(names[-1])
    assert records.read == read
    history.rounds(names[0])
    assert records.read == read + 1


def test_a_model_that_is_still_being_validated_is_summarised_here() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.MODELS, "m", {"model": "m", "session": "s", "round": 1, "created_at": 1.0, "metrics": {}})
    for client, scope, value in (("a", "client", 0.5), ("b", "client", 0.7), ("e", "test", 0.9)):
        row = {"model": "m", "client": client, "scope": scope, "weight": 1, "metrics": {"accuracy": value}}
        records.put(tables.VALIDATIONS, f"m/{client}", row)
    model = History(records).model("m")
    assert model is not None
    assert model["metrics"]["accuracy"]["mean"] == 0.6
    assert model["metrics"]["test/accuracy"]["n"] == 1


def test_a_trail_begins_with_its_seed() -> None:
    records = SqliteRecords(":memory:")
    for name, session, number in (("seed", None, 0), ("m1", "s", 1), ("m2", "s", 2), ("x", "other", 1)):
        metrics = {"loss": {"mean": 1.0}}
        document = {"model": name, "session": session, "round": number, "created_at": 1.0, "metrics": metrics}
        records.put(tables.MODELS, name, document)
    put_session(records, "s", "running", 1.0)
    found = History(records).session("s")
    assert found is not None
    assert [model["model"] for model in History(records).trail(found)] == ["seed", "m1", "m2"]
