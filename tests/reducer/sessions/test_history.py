"""What a session records of its models, and of the model that it started from: records of another session stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.effects import Ack
from fedmq_reducer.operations import ChangeModel, RecordLateValidation, RecordModel, RecordValidations
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.snapshot import Load, SessionSnapshot, Snapshot
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ModelRecord, SummaryRecord, ValidationRecord
from support.cores import all_of, blob, events, one

from .driver import TERM, SessionDriver
from .records import attempt_record, model_changes, recorded, round_record, session_record


@pytest.fixture
def session() -> Iterator[SessionDriver]:
    """Two rounds with one client, which validates each model as it receives it."""
    driver = SessionDriver({"k1": ["c1"]}, rounds=2, validation="with_training")
    yield driver
    driver.check()


def _validation(at: float, value: float, session: str = "s") -> ValidationRecord:
    return ValidationRecord(
        session=session, round=1, model="s-0001", client="c1", scope="client", weight=1, metrics={"loss": value}, at=at
    )


def test_what_a_session_finds_of_the_model_that_it_started_from_is_a_record_of_the_sessions_own(
    session: SessionDriver,
) -> None:
    session.plan()
    session.validate("c1", "seed", 0, {"loss": 5.0}, action="train")
    effects = session.commit(1)
    [summary] = recorded(effects, SummaryRecord)
    assert (summary.key, summary.round, summary.metrics["loss"]["mean"]) == ("s/seed", 0, 5.0)
    assert not all_of(effects, ChangeModel), "the record of the model belongs to who has made it"


def test_what_a_session_finds_of_its_own_models_is_in_their_records(session: SessionDriver) -> None:
    session.plan()
    session.next_plans(session.commit(1))
    session.validate("c1", "s-0001", 1, {"loss": 4.0}, action="train")
    effects = session.commit(2)
    assert [change.metrics["loss"]["mean"] for change in model_changes(effects)] == [4.0]
    assert not recorded(effects, SummaryRecord)


def test_a_session_that_is_stopped_in_its_first_round_has_recorded_what_it_found_of_its_first_model(
    session: SessionDriver,
) -> None:
    session.plan()
    session.validate("c1", "seed", 0, {"loss": 5.0}, action="train")
    effects = session.stop()
    assert [summary.key for summary in recorded(effects, SummaryRecord)] == ["s/seed"]
    assert not all_of(effects, ChangeModel)


def test_a_reducer_that_takes_over_records_earlier_validations_of_the_first_model() -> None:
    record = session_record(policy=Policy(rounds=2, validation="none").model_dump(mode="json"))
    found = _validation(1.0, 5.0).model_copy(update={"model": "seed", "round": 0})
    before = SessionSnapshot(record, (round_record(),), validations={"seed": {"c1": found}})
    driver = SessionDriver({"k1": ["c1"]}, Snapshot((before,)))
    driver.next_plans(driver.loaded)
    [summary] = recorded(driver.commit(2), SummaryRecord)
    assert (summary.key, summary.metrics["loss"]["mean"]) == ("s/seed", 5.0)


def test_a_validation_of_an_open_session_replaces_an_earlier_one(session: SessionDriver) -> None:
    session.plan()
    effects = session.validate("c1", "seed", 0, {"loss": 5.0})
    [validation] = one(effects, RecordValidations).records
    assert validation.key == "s/seed/c1"
    assert [event.id for event in events(effects, "model.validated")] == ["validated-s/seed/c1"]
    assert effects[-2] == Ack((session.tag,))


def test_a_validation_of_an_ended_session_replaces_none(session: SessionDriver) -> None:
    session.plan()
    session.stop()
    effects = session.validate("c1", "seed", 0, {"loss": 6.0})
    assert one(effects, RecordLateValidation).record.key == "s/seed/c1"
    assert not all_of(effects, RecordValidations)
    assert effects[-2] == Ack((session.tag,))


def test_the_first_validation_of_an_ended_session_stays() -> None:
    records = SqliteRecords(":memory:")
    for session in "st":
        records.insert(tables.ROUNDS, f"{session}/000001", round_record(session=session).document())
        records.insert(
            tables.ATTEMPTS, f"{session}/1", attempt_record().model_copy(update={"session": session}).document()
        )
    record = RecordPerformer("holder", records).performers()[RecordLateValidation]
    record(RecordLateValidation(_validation(1.0, 5.0), 1))
    record(RecordLateValidation(_validation(2.0, 6.0), 1))
    record(RecordLateValidation(_validation(3.0, 7.0, session="t").model_copy(update={"model": "t-0001"}), 1))
    found = records.find(tables.VALIDATIONS, order="at")
    assert [(each["session"], each["metrics"]["loss"]) for each in found] == [("s", 5.0), ("t", 7.0)]


def test_a_model_that_is_recorded_again_keeps_what_was_found_of_it() -> None:
    records = SqliteRecords(":memory:")
    record = RecordPerformer("holder", records).performers()[RecordModel]
    model = ModelRecord(model="s-0001", ref=blob("models/s-0001"), session="s", round=1, created_at=1.0)
    record(RecordModel(model, TERM))
    records.update(tables.MODELS, "s-0001", {"metrics": {"loss": {"mean": 0.5}}})
    record(RecordModel(model, TERM))
    document = records.get(tables.MODELS, "s-0001")
    assert document is not None and document["metrics"] == {"loss": {"mean": 0.5}}


def test_the_newest_of_a_validations_records_under_an_old_and_a_new_key_is_loaded() -> None:
    records = SqliteRecords(":memory:")
    session = {"session": "s", "state": "running", "policy": {}, "random_seed": 1, "position": 0, "created_at": 0.0}
    records.put(tables.SESSIONS, "s", session)
    new, old = _validation(2.0, 4.0), _validation(1.0, 5.0)
    records.put(tables.VALIDATIONS, new.key, new.document())
    records.put(tables.VALIDATIONS, "zoo/c1", old.document())
    snapshot = RecordPerformer("holder", records).load(Load())
    assert snapshot.sessions[0].validations == {"s-0001": {"c1": new}}
    assert new.key == keys.validation_record("s", "s-0001", "c1")
