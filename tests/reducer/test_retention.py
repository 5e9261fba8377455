"""Which models of a session expire, which are kept, and that a reducer that takes over finishes a deletion."""

from __future__ import annotations

from typing import Any

import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import Fenced, Gone
from fedmq.records.base import Lease
from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import ChangeSession
from fedmq_reducer.performers.retention_performer import RetentionPerformer
from fedmq_reducer.retention import Delete, ExpireModels, SweepOrphans, check_kept, superfluous
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.queue import Sessions
from fedmq_reducer.sessions.session import Session, Stage, Validations, Window
from fedmq_reducer.sessions.steps.expiring import after_commit, after_end
from fedmq_reducer.snapshot import Snapshot
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef, PlanKey
from fedmq_schemas.policy import ModelSelection, Policy, Retention
from fedmq_schemas.records import Ledger, LedgerEntry, Outcome, SessionChange
from fedmq_schemas.topology import Topology
from reducer.sessions.records import session_record

MEAN = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.7, 5: 0.6, 6: 0.2}
"""The accuracy of six models."""


def _name(number: int) -> str:
    return f"s-{number:04d}-abc"


def _record(number: int, **fields: Any) -> dict[str, Any]:
    ref = {"key": keys.model_blob(_name(number)), "size": 3, "sha256": "0" * 64}
    metrics = {"accuracy": {"mean": MEAN[number]}} if number else {}
    session = "s" if number else None
    known = {"model": _name(number), "session": session, "round": number, "metrics": metrics, "kept": True, "ref": ref}
    return {**known, **fields}


def _rounds(names: list[str]) -> list[int]:
    return [int(name.split("-")[1]) for name in names]


def _rule(newest: int = 6, up_to: int = 4, every: int = 0, open_rounds: frozenset[int] = frozenset()) -> ExpireModels:
    return ExpireModels("s", newest, up_to, every, ModelSelection(), 1, open_rounds)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (_rule(), [1, 3, 4]),
        (_rule(every=3), [1, 4]),
        (_rule(every=1), []),
        (_rule(open_rounds=frozenset({2, 3})), [1]),
        (_rule(up_to=6), [1, 3, 4, 5]),
        (_rule(up_to=0), []),
    ],
)
def test_all_models_expire_but_the_best_the_newest_the_open_ones_and_every_nth(
    rule: ExpireModels, expected: list[int]
) -> None:
    assert _rounds(superfluous([_record(number) for number in range(7)], rule)) == expected


def test_the_policys_metric_decides_which_model_is_best_and_without_metrics_none_is() -> None:
    models = [_record(number, metrics={"loss": {"mean": MEAN[number]}}) for number in range(1, 7)]
    assert _rounds(superfluous(models, _rule())) == [2, 3, 4]
    assert _rounds(superfluous([_record(number, metrics={}) for number in range(1, 7)], _rule())) == [1, 2, 3, 4]


def test_after_a_commit_the_newest_two_models_and_open_windows_are_kept() -> None:
    model = BlobRef(key="models/m", size=1, sha256="0" * 64)
    policy = Policy(retention=Retention(keep_models=5))
    session = Session("s", policy, 0, 1, Stage.DRAWING, round=7, validations=Validations({3: Window(model, 1.0)}))
    expire = ExpireModels("s", 6, 4, 5, policy.select, 9, frozenset({3}))
    assert after_commit(session, 9) == [SweepOrphans("s", 5), expire, Delete(9)]
    session.round = 3
    assert after_commit(session, 9) == [SweepOrphans("s", 1)]
    session.policy, session.round = Policy(), 7
    assert after_commit(session, 9) == [SweepOrphans("s", 5)]
    session.round = 2
    assert after_commit(session, 9) == []


def test_after_the_end_all_models_are_judged_and_restored_bytes_are_deleted() -> None:
    recorded = Policy(retention=Retention(keep_models=0)).model_dump(mode="json")
    orphans = SweepOrphans("s")
    assert after_end("s", recorded, 6, 9) == [orphans, ExpireModels("s", 6, 6, 0, ModelSelection(), 9), Delete(9, "s")]
    assert after_end("s", recorded, 1, 9) == [orphans]
    assert after_end("s", Policy().model_dump(mode="json"), 6, 9) == [orphans]


class Stores:
    """Six models of a session, each with its optimizer's state, in stores of whose records this reducer holds the lease."""

    def __init__(self) -> None:
        self.records, self.blobs = SqliteRecords(":memory:"), MemoryBlobs()
        lease = self.records.acquire("reducer", 10.0)
        assert isinstance(lease, Lease)
        self.epoch = lease.epoch
        for number in range(7):
            self.records.put(tables.MODELS, _name(number), _record(number))
            self.blobs.put(keys.model_blob(_name(number)), b"abc")
            if number:
                state = self.blobs.put(keys.optimizer_blob("s", number, "1"), b"abc")
                self.records.put(tables.ROUNDS, keys.round_record("s", number), {"optimizer": state.model_dump()})
        self.performer = RetentionPerformer(self.blobs, self.records)

    def expire(self) -> None:
        self.performer.expire_models(ExpireModels("s", 6, 4, 0, ModelSelection(), self.epoch))

    def delete(self, session: str | None = None) -> None:
        self.performer.delete(Delete(self.epoch, session))

    def there(self) -> list[int]:
        return sorted(_rounds([keys.model_id(info.key) for info in self.blobs.list(keys.ALL_MODELS)]))

    def states(self) -> list[int]:
        return sorted(int(info.key.split("/")[2]) for info in self.blobs.list(keys.session_blobs("s")))

    def kept(self) -> list[int]:
        return sorted(each["round"] for each in self.records.find(tables.MODELS, {"kept": True}))


def test_a_model_is_deleted_with_the_optimizer_state_of_its_round_and_its_record_stays() -> None:
    stores = Stores()
    stores.expire()
    assert (stores.kept(), stores.there()) == ([0, 2, 5, 6], [0, 1, 2, 3, 4, 5, 6])
    stores.delete()
    assert (stores.there(), stores.states()) == ([0, 2, 5, 6], [2, 5, 6])
    gone = stores.records.get(tables.MODELS, _name(3))
    assert gone is not None and gone["metrics"] == {"accuracy": {"mean": 0.5}}
    with pytest.raises(Gone, match=r"'s-0003-abc' was let go.*keep_models.*fedmq models --session s"):
        check_kept(gone)


def test_a_reducer_that_takes_over_finishes_the_deletion_of_expired_models() -> None:
    stores = Stores()
    stores.expire()
    stores.blobs.delete(keys.model_blob(_name(1)))  # killed between two deletions
    RetentionPerformer(stores.blobs, stores.records).delete(Delete(stores.epoch))
    stores.expire()
    stores.delete()
    assert stores.there() == stores.kept() == [0, 2, 5, 6]


def test_a_reducer_that_takes_over_deletes_first_and_repeats_the_end_of_an_unannounced_session() -> None:
    """All that follows an end is lost with a kill, and no later commit would make up for it."""
    policy = Policy(retention=Retention(keep_models=0)).model_dump(mode="json")
    ended = session_record("finished", policy=policy, round=6, model=_name(6), ended_at=1.0, announced=False)
    context = ReducerContext(Membership(Topology("test"), presence=10.0), 9)
    sessions = Sessions(context)
    sessions.restore(Snapshot())
    assert Delete(9) in context.take_effects()
    sessions.restore(Snapshot(unannounced=(ended,)))
    assert [each for each in context.take_effects() if isinstance(each, ChangeSession | ExpireModels)] == [
        *after_end("s", policy, 6, 9)[1:2],
        ChangeSession("s", SessionChange(announced=True), 9),
    ]


@pytest.mark.parametrize("named", [_name(3), keys.model_blob(_name(3))])
def test_a_model_that_a_session_started_from_or_is_to_start_from_is_kept(named: str) -> None:
    stores = Stores()
    stores.records.put(tables.SESSIONS, "t", {"session": "t", "seed": named})
    stores.expire()
    stores.delete()
    assert stores.there() == stores.kept() == [0, 2, 3, 5, 6]


def test_bytes_that_a_stalled_reducer_stores_again_are_deleted_at_the_sessions_end_and_no_others() -> None:
    stores = Stores()
    stores.expire()
    stores.delete()
    stores.blobs.put(keys.model_blob(_name(1)), b"abc")
    stores.blobs.put(keys.model_blob("s-mine"), b"abc")
    stores.delete()
    assert keys.model_blob(_name(1)) in {info.key for info in stores.blobs.list(keys.ALL_MODELS)}
    stores.delete("s")
    left = {info.key for info in stores.blobs.list(keys.ALL_MODELS)}
    assert left == {keys.model_blob(_name(number)) for number in (0, 2, 5, 6)} | {keys.model_blob("s-mine")}


def test_a_reducer_that_has_lost_the_lease_expires_nothing() -> None:
    stores = Stores()
    stores.records.release(Lease("reducer", stores.epoch))
    assert isinstance(stores.records.acquire("another", 10.0), Lease)
    with pytest.raises(Fenced):
        stores.expire()
    stores.delete()
    assert stores.there() == stores.kept() == list(range(7))


# -- uploads that no ledger names ---------------------------------------------------------------------------------------


class Uploads:
    """Two rounds of a session, in each of which an update was accepted, one was rejected and one only uploaded."""

    def __init__(self) -> None:
        self.blobs = MemoryBlobs()
        self.performer = RetentionPerformer(self.blobs, SqliteRecords(":memory:"))
        self.named, self.orphans = list[str](), list[str]()
        for number in (1, 2):
            self.named += [self.put(number, "c1", "a"), self.put(number, "c2", "b")]
            entries = [self.entry(number, "c1", "a", "accepted"), self.entry(number, "c2", "b", "rejected")]
            self.ledger(keys.round_ledger_blob("s", number), number, *entries)
            failed = PlanKey(session="s", round=number, attempt=1)
            self.ledger(
                keys.partial_ledger_blob(failed, "k1", "0" * 64), number, self.entry(number, "c3", "c", "accepted")
            )
            self.named.append(self.put(number, "c3", "c"))
            self.orphans += [self.put(number, "c1", "d"), self.put(number, "c4", "a")]
            self.orphans.append(self.blobs.put(keys.upload_blob("s", number, "c1", "7"), b"1").key)
            self.blobs.put(keys.partial_sum_blob(failed, "k1", "0" * 64), b"1")
            self.blobs.put(keys.optimizer_blob("s", number, "0" * 64), b"1")
        self.before = self.there()

    def put(self, number: int, client: str, letter: str) -> str:
        return self.blobs.put(keys.update_blob("s", number, client, letter * 64), b"1").key

    def entry(self, number: int, client: str, letter: str, outcome: Outcome) -> LedgerEntry:
        blob = BlobRef(key=keys.update_blob("s", number, client, letter * 64), size=1, sha256=letter * 64)
        return LedgerEntry(client=client, outcome=outcome, blob=blob)

    def ledger(self, key: str, number: int, *entries: LedgerEntry) -> None:
        parent = BlobRef(key="models/m", size=1, sha256="0" * 64)
        ledger = Ledger(
            session="s",
            round=number,
            attempt=1,
            parent=parent,
            exponents=(),
            total_weight=0,
            entries=entries,
            plans=(),
        )
        self.blobs.put(key, ledger.model_dump_json().encode())

    def there(self) -> set[str]:
        return {info.key for info in self.blobs.list("updates/")}


def test_uploads_of_a_round_that_no_ledger_names_are_deleted_and_nothing_else() -> None:
    """A client that uploaded and published no update left its bytes for ever with `keep_updates = "all"`."""
    uploads = Uploads()
    uploads.performer.sweep_orphans(SweepOrphans("s", 1))
    assert uploads.before - uploads.there() == set(uploads.orphans[:3])
    uploads.performer.sweep_orphans(SweepOrphans("s", 1))
    assert uploads.before - uploads.there() == set(uploads.orphans[:3])


def test_after_the_end_the_orphans_of_all_rounds_are_deleted() -> None:
    uploads = Uploads()
    uploads.blobs.put(keys.update_blob("other", 1, "c1", "a" * 64), b"1")
    uploads.put(3, "c1", "e")  # of a round that was not committed
    uploads.performer.sweep_orphans(SweepOrphans("s"))
    assert uploads.there() == uploads.before - set(uploads.orphans) | {keys.update_blob("other", 1, "c1", "a" * 64)}


def test_nothing_of_a_round_with_an_unreadable_ledger_is_deleted() -> None:
    uploads = Uploads()
    uploads.blobs.put(keys.round_ledger_blob("s", 1), b"{}")
    uploads.performer.sweep_orphans(SweepOrphans("s"))
    assert uploads.before - uploads.there() == set(uploads.orphans[3:])
