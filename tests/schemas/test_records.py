"""Records: what a document holds, that records load as they were written, and that older documents load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmq_schemas import records
from fedmq_schemas.messages import BatchedEvent, BlobRef, Envelope, Event, Partial, PlanKey, Validation
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import (
    AttemptRecord,
    ClientRecord,
    CombinerRecord,
    EventRecord,
    Ledger,
    LedgerEntry,
    ModelChange,
    ModelRecord,
    PartialRecord,
    Participation,
    PlannedPartRecord,
    Record,
    RoundRecord,
    Score,
    SessionChange,
    SessionEnd,
    SessionRecord,
    SummaryRecord,
    SystemRecord,
    ValidationRecord,
    ValidationRequest,
    WindowRecord,
)

WRITTEN: dict[str, Any] = json.loads(Path(__file__).with_name("documents.json").read_text())
"""Key and document of each record, as the record store holds them."""
POLICY: dict[str, Any] = WRITTEN["session"]["document"]["policy"]
"""A policy as an older version recorded it: keys that are added later are not in it."""
SHA256 = "0a1b2c3d4e5f" + "6" * 52
PLAN = PlanKey(session="s1", round=1)


def ref(key: str) -> BlobRef:
    return BlobRef(key=key, size=9, sha256=SHA256)


def plain(key: str) -> dict[str, Any]:
    return {"key": key, "size": 9, "sha256": SHA256}


MODEL, LEDGER = ref("models/s1-0001-0a1b2c3d4e5f"), ref("updates/s1/000001/ledger.json")
PARTIAL = Partial(plan=PLAN, epoch=1, sum=None, ledger=LEDGER, total_weight=0, counts={"absent": 2})
COMMITTED = RoundRecord(
    session="s1",
    round=1,
    attempt=2,
    model=MODEL,
    parent=ref("models/seed-1"),
    ledger=LEDGER,
    total_weight=7,
    counts={"accepted": 2},
    metrics={"loss": {"mean": 0.5}},
    exponents=(-30, -20),
    bytes={"down": 18, "up": 18},
    seconds=1.5,
    epoch=1,
    committed_at=20.0,
)
ENTRIES = (
    LedgerEntry(client="a", outcome="accepted", weight=7, norm=1.5, seconds={"train": 2.0}, at=4.0),
    LedgerEntry(client="b", outcome="absent", reason="no answer by the deadline"),
)
ENVELOPE = Envelope(kind="event", id="e1", cause="m1", alliance="north", sender="reducer", sent_at=3.0)

SESSION = SessionRecord(
    session="s1", name="north", state="queued", policy=POLICY, random_seed=5, position=0, created_at=1.0
)
PLANNED = PlannedPartRecord(part=0, combiner="c1", clients=("a", "b"), voided=True)
ROUND_LEDGER = Ledger(
    session="s1", round=1, attempt=2, parent=MODEL, exponents=(), total_weight=7, entries=ENTRIES, plans=(PLAN,)
)

RECORDS: dict[str, Record] = {
    "session": SESSION,
    "attempt": AttemptRecord(
        session="s1",
        round=1,
        attempt=2,
        model=ref("models/seed-1"),
        exponents=(-30, -20),
        plans=(PLANNED,),
        epoch=1,
        created_at=2.0,
    ),
    "summary": SummaryRecord(session="s2", model="m", metrics={"loss": {"mean": 0.5}}, at=9.0),
    "window": WindowRecord(
        session="s1",
        round=1,
        model="s1-0001-0a1b2c3d4e5f",
        requests=(ValidationRequest(combiner="c1", clients=("a", "b"), at=21.0),),
        closes_at=51.0,
        absent=("b",),
    ),
    "partial": PartialRecord.of(PARTIAL, "c1"),
    "round": COMMITTED,
    "participation": Participation.of(ROUND_LEDGER),
    "model": ModelRecord.of(COMMITTED),
    "client": ClientRecord(
        client="a",
        labels={"site": "north"},
        tasks=("train", "validate"),
        weight=7,
        software="fedmq 1",
        combiner="c1",
        ordinal=0,
        state="away",
        last_seen=4.0,
    ),
    "combiner": CombinerRecord(combiner="c1", state="present", last_seen=4.0, clients=2),
    "queues": SystemRecord(what="queues", at=5.0, queues=({"name": "q", "ready": 1},)),
    "stores": SystemRecord(what="stores", at=5.0, stores=(), disk=None),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_written_as_plain_data_under_its_key_and_loads_again(name: str) -> None:
    record, written = RECORDS[name], WRITTEN[name]
    assert record.key == written["key"]
    assert record.document() == written["document"]
    assert json.loads(json.dumps(record.document())) == written["document"]
    assert record.table in records.TABLES
    loaded = type(record).model_validate({**written["document"], "of a later version": 1})
    assert loaded == record
    assert loaded.document() == written["document"]


def test_a_recorded_policy_loads_and_means_the_same() -> None:
    assert Policy.model_validate(POLICY) == Policy(name="north")


def test_a_policy_is_recorded_under_the_same_names_and_with_the_same_defaults_as_before() -> None:
    assert _same_keys(Policy(name="north").model_dump(mode="json"), POLICY) == POLICY


def _same_keys(document: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of `document` that `like` has, in its sections too. Raises KeyError if one is missing."""
    return {
        key: _same_keys(document[key], value) if isinstance(value, dict) and value else document[key]
        for key, value in like.items()
    }


@pytest.mark.parametrize(("action", "number"), [("train", 0), ("validate", 1)])
def test_a_validation_in_a_train_task_is_of_the_model_before_the_round(action: Any, number: int) -> None:
    plan = PlanKey(session="s1", round=1, action=action)
    body = Validation(plan=plan, model="models/m", scope="test", weight=None, metrics={"loss": [0.5, None]}, reason="x")
    record = ValidationRecord.of(body, "a", 4.0)
    assert record.key == "s1/m/a"
    assert record.document() == {
        "session": "s1",
        "round": number,
        "model": "m",
        "client": "a",
        "scope": "test",
        "weight": None,
        "metrics": {"loss": [0.5, None]},
        "reason": "x",
        "at": 4.0,
    }
    assert ValidationRecord.model_validate(record.document()) == record


def test_an_event_is_written_as_plain_data_under_its_id() -> None:
    event = Event(name="update.accepted", session="s1", round=1, client="a", data={"weight": 7})
    document = {
        "id": "e1",
        "name": "update.accepted",
        "session": "s1",
        "round": 1,
        "client": "a",
        "combiner": None,
        "at": 3.0,
        "sender": "reducer",
        "cause": "m1",
        "data": {"weight": 7},
    }
    assert records.event_document(ENVELOPE, event) == document
    record = EventRecord.model_validate(document)
    assert (record.key, record.document()) == ("e1", document)


def test_an_event_that_came_with_others_has_an_id_and_a_cause_of_its_own() -> None:
    document = records.event_document(ENVELOPE, BatchedEvent(name="update.absent", id="e2", cause="m2"))
    assert (document["id"], document["cause"], document["at"]) == ("e2", "m2", 3.0)


def test_a_change_of_a_session_holds_the_fields_that_are_set_and_no_others() -> None:
    assert SessionChange(stop_after_round=True).fields() == {"stop_after_round": True}
    assert SessionChange(announced=True).fields() == {"announced": True}
    standing = SessionChange(state="running", waiting="", waiting_until=None)
    assert standing.fields() == {"state": "running", "waiting": "", "waiting_until": None}
    started = SessionChange(seed="seed-1", base=ref("updates/seed-1/base-1"), started_at=2.0)
    assert started.fields() == {"seed": "seed-1", "base": plain("updates/seed-1/base-1"), "started_at": 2.0}
    score = SessionChange(score=Score(round=1, value=None, metric="loss", mode="min"))
    expected = {"round": 1, "value": None, "metric": "loss", "mode": "min", "best": None, "best_round": 0}
    assert score.fields() == {"score": expected}


def test_a_session_that_has_ended_loads_with_its_end() -> None:
    end = SessionEnd(
        state="failed",
        reason="no clients",
        round=0,
        model=None,
        announced=False,
        ended_at=9.0,
        waiting="",
        waiting_until=None,
    )
    assert end.fields() == {
        "state": "failed",
        "reason": "no clients",
        "round": 0,
        "model": None,
        "announced": False,
        "ended_at": 9.0,
        "waiting": "",
        "waiting_until": None,
    }
    ended = SessionRecord.model_validate(SESSION.document() | end.fields())
    assert (ended.state, ended.round, ended.model, ended.announced) == ("failed", 0, None, False)
    assert ended.document() == SESSION.document() | end.fields()


def test_a_model_that_is_not_kept_says_whether_its_bytes_are_deleted() -> None:
    change = ModelChange(kept=False, deleted=False)
    assert change.fields() == {"kept": False, "deleted": False}
    assert ModelChange(metrics={"loss": {"mean": 0.5}}).fields() == {"metrics": {"loss": {"mean": 0.5}}}
    document = ModelRecord.of(COMMITTED).document() | change.fields()
    assert ModelRecord.model_validate(document).deleted is False
    assert not records.is_kept(document)


@pytest.mark.parametrize(
    ("record", "added"),
    [
        (SESSION, ("waiting_until", "base", "started_at", "score")),
        (COMMITTED, ("base", "bytes")),
        (ModelRecord.of(COMMITTED), ("base", "kept")),
    ],
)
def test_a_document_of_an_older_version_loads_without_the_fields_that_were_added(
    record: Record, added: tuple[str, ...]
) -> None:
    document = record.document()
    for name in added:
        del document[name]
    loaded = type(record).model_validate(document)
    assert {name: getattr(loaded, name) for name in added} == {
        name: type(record).model_fields[name].get_default(call_default_factory=True) for name in added
    }


def test_a_session_loads_whose_policy_this_version_can_not_read() -> None:
    document = SESSION.document() | {"policy": {"of another version": [1, 2]}}
    assert SessionRecord.model_validate(document).policy == {"of another version": [1, 2]}


def test_metrics_are_written_as_they_are() -> None:
    metrics = {
        "loss": {"mean": 0.5, "n": 3},
        "large": 2**60,
        "text": "x",
        "none": None,
        "deep": [[1, 2.0], {"a": True}],
    }
    record = COMMITTED.model_copy(update={"metrics": metrics})
    assert json.dumps(record.document()["metrics"]) == json.dumps(metrics)
    assert json.dumps(ModelChange(metrics=metrics).fields()["metrics"]) == json.dumps(metrics)
