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
from fedmq_reducer.retention import Delete, ExpireModels, check_kept, superfluous
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.queue import Sessions
from fedmq_reducer.sessions.session import Session, Stage, Validations, Window
from fedmq_reducer.sessions.steps.expiring import after_commit, after_end
from fedmq_reducer.snapshot import Snapshot
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.policy import ModelSelection, Policy, Retention
from fedmq_schemas.records import SessionChange
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
    assert after_commit(session, 9) == [ExpireModels("s", 6, 4, 5, policy.select, 9, frozenset({3})), Delete(9)]
    session.round = 3
    assert after_commit(session, 9) == []
    session.policy, session.round = Policy(), 7
    assert after_commit(session, 9) == []


def test_after_the_end_all_models_are_judged_and_restored_bytes_are_deleted() -> None:
    recorded = Policy(retention=Retention(keep_models=0)).model_dump(mode="json")
    assert after_end("s", recorded, 6, 9) == [ExpireModels("s", 6, 6, 0, ModelSelection(), 9), Delete(9, "s")]
    assert after_end("s", recorded, 1, 9) == []
    assert after_end("s", Policy().model_dump(mode="json"), 6, 9) == []


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
        *after_end("s", policy, 6, 9)[:1],
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
