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


def put_validation(records: SqliteRecords, session: str, client: str, value: float, scope: str = "client") -> None:
    metrics = {"accuracy": value}
    row = {"session": session, "model": "m", "client": client, "scope": scope, "weight": 1, "metrics": metrics}
    records.put(tables.VALIDATIONS, keys.validation_record(session, "m", client), row)


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


def test_a_model_that_is_still_being_validated_is_summarized_here() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.MODELS, "m", {"model": "m", "session": "s", "round": 1, "created_at": 1.0, "metrics": {}})
    for client, scope, value in (("a", "client", 0.5), ("b", "client", 0.7), ("e", "test", 0.9)):
        put_validation(records, "s", client, value, scope)
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


def test_a_first_model_of_another_session_is_summarized_from_what_this_session_found() -> None:
    records = SqliteRecords(":memory:")
    metrics = {"accuracy": {"mean": 0.9}}
    document = {"model": "m", "session": "earlier", "round": 7, "created_at": 1.0, "metrics": metrics}
    records.put(tables.MODELS, "m", document)
    records.put(tables.SESSIONS, "s", {"session": "s", "state": "running", "created_at": 1.0, "seed": "m"})
    put_validation(records, "earlier", "a", 0.9)
    put_validation(records, "s", "a", 0.3)
    history = History(records)
    session = history.session("s")
    assert session is not None
    [first] = history.trail(session)
    assert (first["model"], first["round"], first["metrics"]["accuracy"]["mean"]) == ("m", 0, 0.3)
    summary = {"session": "s", "model": "m", "round": 0, "metrics": {"accuracy": {"mean": 0.4}}, "at": 2.0}
    records.put(tables.SUMMARIES, keys.summary_record("s", "m"), summary)
    assert history.trail(session)[0]["metrics"] == summary["metrics"]
    model = history.model("m")
    assert model is not None and model["metrics"] == metrics
    assert [each["session"] for each in history.summaries("m")] == ["s"]


def test_a_first_model_is_the_one_that_the_first_round_starts_from_where_that_is_not_the_seed_itself() -> None:
    records = SqliteRecords(":memory:")
    for name in ("seed", "m"):
        document: dict[str, Any] = {"model": name, "session": None, "round": 0, "created_at": 1.0, "metrics": {}}
        records.put(tables.MODELS, name, document)
    put_session(records, "s", "running", 1.0)
    attempt = {"session": "s", "round": 1, "attempt": 1, "model": {"key": keys.model_blob("m")}, "created_at": 2.0}
    records.put(tables.ATTEMPTS, keys.attempt_record("s", 1, 1), attempt)
    put_validation(records, "s", "a", 0.3)
    history = History(records)
    session = history.session("s")
    assert session is not None
    assert [(model["model"], model["metrics"]["accuracy"]["mean"]) for model in history.trail(session)] == [("m", 0.3)]
