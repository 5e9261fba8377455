"""An ended session is forgotten on request; again after a crash in the middle; one that has not ended is not."""

from __future__ import annotations

import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import Fenced, Refused, Transient
from fedmq.records.base import Lease
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.effects import Ack, Effect, Reject, Resubscribe
from fedmq_reducer.operations import Acquire, ForgetSession, RecordSession, Renew
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.performers.retention_performer import RetentionPerformer
from fedmq_reducer.retention import SweepSession
from fedmq_reducer.snapshot import Load
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import CombinerPresence, ForgetMemberRequest, ForgetSessionRequest, Plan, PlanKey, Start
from reducer.sessions.driver import TERM, SessionDriver
from support.cores import all_of, bodies, events, one

SESSION = "s"


def _request(driver: SessionDriver) -> list[Effect]:
    return driver.receive(ForgetSessionRequest(session=SESSION), "operator")


def test_blobs_are_deleted_before_records_and_the_request_is_acknowledged_last() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    sweep = one(_request(driver), SweepSession)
    assert sweep.session == SESSION
    forgotten, published, acked = driver.done(sweep, None)
    assert forgotten == ForgetSession(SESSION, TERM)
    [event] = events([published], "session.forgotten")
    assert (event.session, event.data) == (SESSION, {"reason": "asked for by operator"})
    assert isinstance(acked, Ack)
    driver.check()


def test_a_session_that_has_not_ended_is_refused() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    driver.plan()
    effects = _request(driver)
    [event] = events(effects, "message.refused")
    assert event.data["reason"] == "session 's' has not ended and can't be forgotten: `fedmq stop s` ends it"
    assert len(all_of(effects, Ack)) == 1
    assert not all_of(effects, SweepSession)


def test_a_session_whose_start_is_being_recorded_is_refused_too() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    driver.receive(Start(policy=driver.policy), "operator", message_id=SESSION)
    effects = _request(driver)
    assert events(effects, "message.refused") and not all_of(effects, SweepSession)
    driver.done(driver.last(RecordSession))
    driver.check()


def test_a_request_whose_blobs_can_t_be_deleted_is_rejected_with_the_reason() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    effects = driver.failed(one(_request(driver), SweepSession), Refused("read only"))
    assert effects == [Reject(driver.tag, "read only")]
    assert not driver.reducer.waits()
    driver.check()


def test_a_session_that_is_started_while_blobs_of_its_name_are_deleted_stays() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    sweep = one(_request(driver), SweepSession)
    driver.queue(SESSION)
    effects = driver.done(sweep, None)
    assert not all_of(effects, ForgetSession)
    assert len(events(effects, "message.refused")) == len(all_of(effects, Ack)) == 1
    driver.check()


def test_a_round_is_planned_again_at_another_combiner_without_a_client_that_was_forgotten() -> None:
    driver = SessionDriver({"k1": ["c1", "c2"], "k2": ["c3"]}, clients_required=1)
    driver.plan()
    driver.receive(CombinerPresence(clients=1, gone=("c1",)), "k1")
    driver.receive(ForgetMemberRequest(member="client", name="c1"), "operator")
    plans = bodies(driver.leave("k1"), Plan)
    assert [plan.clients for plan in plans] == [("c2",)]
    driver.check()


def test_a_round_of_forgotten_clients_is_not_given_up_before_a_combiner_is_there() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    driver.plan()
    driver.receive(CombinerPresence(clients=0, gone=("c1",)), "k1")
    driver.receive(ForgetMemberRequest(member="client", name="c1"), "operator")
    assert not events(driver.leave("k1"), "plan.voided")
    assert bodies(driver.hello("k1"), Plan)
    driver.check()


def test_a_reducer_that_loses_the_lease_in_the_middle_gives_the_request_back_and_its_successor_repeats_it() -> None:
    driver = SessionDriver({"k1": ["c1"]})
    sweep = one(_request(driver), SweepSession)
    lost = driver.failed(one(driver.fire("lease"), Renew), Fenced("term 7 is over"))
    assert all_of(lost, Resubscribe)
    assert driver.done(sweep, None) == []
    driver.done(one(driver.fire("lease"), Acquire), TERM + 1)
    driver.done(driver.last(Load), driver.snapshot)
    again = one(_request(driver), SweepSession)
    assert one(driver.done(again, None), ForgetSession).term == TERM + 1


class Stores:
    """A session with two rounds in stores of whose records this reducer holds the lease."""

    def __init__(self) -> None:
        self.records, self.blobs = SqliteRecords(":memory:"), MemoryBlobs()
        lease = self.records.acquire("r", 10.0)
        assert isinstance(lease, Lease)
        self.term = lease.epoch
        removed = (tables.SESSIONS, tables.ATTEMPTS, tables.PARTIALS, tables.WINDOWS, tables.EVENTS)
        for table in (*removed, tables.ROUNDS, tables.MODELS):
            for session in (SESSION, "other"):
                self.records.put(table, session, {"session": session})
        for number in (1, 2):
            for session in (SESSION, "other"):
                plan = PlanKey(session=session, round=number)
                self.blobs.put(keys.upload_blob(session, number, "c1", "a"), b"1")
                self.blobs.put(keys.partial_sum_blob(plan, "k1", "0" * 64), b"1")
                self.blobs.put(keys.round_ledger_blob(session, number), b"1")
                self.blobs.put(keys.optimizer_blob(session, number, "0" * 64), b"1")
        self.recorder = RecordPerformer("r", self.records)
        self.sweeper = RetentionPerformer(self.blobs, self.records)

    def forget(self) -> None:
        self.sweeper.sweep_session(SweepSession(SESSION))
        self.recorder.forget_session(ForgetSession(SESSION, self.term))

    def tables(self) -> set[str]:
        return {name for name in tables.TABLES if self.records.count(name, {"session": SESSION})}

    def names(self, session: str) -> list[str]:
        return sorted(info.key.rpartition("/")[2] for info in self.blobs.list(keys.session_blobs(session)))


def _is_forgotten(stores: Stores) -> bool:
    kept = sorted(2 * ["ledger.json", "optimizer-" + 12 * "0"])
    assert stores.names("other") == sorted([*kept, *2 * ["upload-a", "partial-1-0-k1-" + 12 * "0"]])
    return (stores.tables(), stores.names(SESSION)) == ({tables.ROUNDS, tables.MODELS}, kept)


def test_the_ledger_the_optimizer_states_and_other_sessions_stay() -> None:
    stores = Stores()
    stores.forget()
    assert _is_forgotten(stores)
    stores.forget()
    assert _is_forgotten(stores)


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_crash_at_each_step_is_made_good_by_the_repetition(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, left = Stores(), steps

    def crashing(delete: object) -> object:
        def deletes(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Transient("killed here")
            return delete(*arguments)  # type: ignore[operator]

        return deletes

    with monkeypatch.context() as patch:
        patch.setattr(stores.blobs, "delete", crashing(stores.blobs.delete))
        patch.setattr(stores.records, "delete", crashing(stores.records.delete))
        with pytest.raises(Transient):
            stores.forget()
    assert stores.records.get(tables.SESSIONS, SESSION) is not None
    stores.forget()
    assert _is_forgotten(stores)


def test_only_the_reducer_with_the_lease_forgets() -> None:
    stores = Stores()
    with pytest.raises(Fenced):
        RecordPerformer("r2", stores.records).forget_session(ForgetSession(SESSION, stores.term))
    assert tables.SESSIONS in stores.tables()
