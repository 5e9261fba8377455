"""What a combiner folds: each update is added or refused whole, into the sum of its own plan, by the plan's rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.aggregation import RULES
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import InvalidUpdate, Refused, Transient
from fedmq.runtime.later import Later
from fedmq.tensors.tensorblob import Weights, decode, encode
from fedmq_combiner.documents import ledger_of
from fedmq_combiner.fold_performer import FoldPerformer
from fedmq_combiner.operations import Close, Drop, Fold, Folded, Open, Save
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef, Plan, PlanKey
from fedmq_schemas.records import Ledger, LedgerEntry
from support.rules import documented_median

MODEL: Weights = {"d": np.zeros(2), "n": np.zeros((), np.int64), "w": np.zeros(3, np.float32)}
LONGEST = 1e6
BLOBS = MemoryBlobs()
BASE = BLOBS.put("models/base", encode(MODEL))
NOWHERE = Path("/nothing-is-written-here")


def plan_of(number: int = 1, **changes: object) -> Plan:
    plan = Plan(
        plan=PlanKey(session="s", round=number),
        epoch=1,
        reply_to="reducer",
        model=BASE,
        exponents=(-40, -40),
        timeout=60.0,
        rounds=9,
        random_seed=1,
        max_norm=LONGEST,
    )
    return plan.model_copy(update=changes)


PLAN = plan_of()


def performer(*plans: Plan, blobs: MemoryBlobs = BLOBS, scratch: Path = NOWHERE) -> FoldPerformer:
    made = FoldPerformer("k1", blobs, scratch)
    for plan in plans or (PLAN,):
        made.open(Open(plan, 1))
    return made


def stored(data: bytes, **changes: object) -> BlobRef:
    key = keys.update_blob("s", 1, "c1", hashlib.sha256(data).hexdigest())
    return BLOBS.put(key, data).model_copy(update=changes)


def delta(**changed: object) -> bytes:
    return encode({name: np.full(zero.shape, changed.get(name, 0), zero.dtype) for name, zero in MODEL.items()})


def fold(ref: BlobRef, weight: int = 3, plan: Plan = PLAN, incarnation: int = 1) -> Fold:
    return Fold(str(plan.plan), incarnation, "c1", ref, weight)


GOOD: dict[str, Fold] = {
    "one": fold(stored(delta(w=0.5, d=-1.0))),
    "another": fold(stored(delta(w=-0.25))),
    "a heavier one": fold(stored(delta(w=1.0)), 2000),
    "the heaviest": fold(stored(delta(w=2.0**-40)), 2**53 - 1),
    "zeros": fold(stored(delta())),
    "a count": fold(stored(delta(n=7))),
    "a tiny one": fold(stored(delta(d=1e-30)), 1),
    "a far one": fold(stored(delta(w=1e5)), 2**30),
}
LONG = encode({"w": np.zeros(3, np.float32), "other": np.zeros(1, np.float32)})
BAD: dict[str, tuple[Fold, str]] = {
    "NaN": (fold(stored(delta(w=np.nan))), "'w' holds NaN"),
    "no weight": (fold(stored(delta(w=0.5)), 0), "the weight is 0"),
    "too long": (fold(stored(delta(d=1e7))), "its norm is 1.41421e+07, and the policy allows 1e+06"),
    "another layout": (fold(stored(LONG)), "the unknown 'other'"),
    "truncated": (fold(stored(delta()[:-4])), "truncated"),
    "absent": (fold(BlobRef(key="updates/s/1/none", size=9, sha256="0" * 64)), "is not in the store"),
    "another sha256": (fold(stored(delta(w=0.5), sha256="0" * 64)), "announced was 000000000000"),
    "another size": (fold(stored(delta(w=0.5), size=3)), "announced were 3"),
}


def entry(client: str, fold: Fold) -> LedgerEntry:
    return LedgerEntry(client=client, outcome="accepted", weight=fold.weight, blob=fold.blob)


def partial_of(
    made: FoldPerformer, plan: Plan = PLAN, entries: tuple[LedgerEntry, ...] = (), incarnation: int = 1
) -> bytes | None:
    """The partial's bytes; None if no update was accepted."""
    ledger = Ledger(
        session="s", round=1, attempt=1, parent=BASE, exponents=(), total_weight=0, entries=entries, plans=(plan.plan,)
    )
    closed = made.close(Close(plan, incarnation, ledger))
    return None if closed.sum is None else BLOBS.get(closed.sum.key)


def refused(made: FoldPerformer, bad: Fold) -> str:
    with pytest.raises(InvalidUpdate) as caught:
        made.fold(bad)
    return caught.value.reason


@given(st.lists(st.sampled_from([*GOOD, *BAD]), min_size=1, max_size=12))
def test_updates_are_folded_or_refused_with_a_reason_and_bad_ones_leave_no_trace(names: list[str]) -> None:
    made, without = performer(), performer()
    for name in names:
        if name in GOOD:
            assert made.fold(GOOD[name]) == without.fold(GOOD[name])
        else:
            bad, reason = BAD[name]
            assert reason in refused(made, bad)
    assert partial_of(made) == partial_of(without)


def test_a_plan_whose_updates_are_all_refused_has_a_ledger_and_no_partial() -> None:
    made = performer()
    refused(made, BAD["NaN"][0])
    assert partial_of(made) is None


def test_folds_of_several_plans_go_each_into_its_own_sum() -> None:
    second = plan_of(2)
    both, only = performer(PLAN, second), performer(PLAN, second)
    mine = [GOOD["one"], GOOD["another"]]
    others = [fold(each.blob, 5, second) for each in (GOOD["zeros"], GOOD["one"])]
    for each in (mine[0], *others, mine[1]):
        both.fold(each)
    for each in (*mine, *others):
        only.fold(each)
    assert partial_of(both) == partial_of(only) is not None
    assert partial_of(both, second) == partial_of(only, second) is not None


def test_folds_of_a_plan_that_was_dropped_are_refused_and_no_others() -> None:
    gone = plan_of(2)
    made = performer(PLAN, gone)
    made.drop(Drop(str(gone.plan), 1))
    for dropped in (fold(GOOD["one"].blob, plan=gone), fold(GOOD["one"].blob, incarnation=2)):
        with pytest.raises(Refused, match="has been dropped"):
            made.fold(dropped)
    assert isinstance(made.fold(GOOD["one"]), Folded)


class Failing(MemoryBlobs):
    """Fails on loading one blob, once."""

    def __init__(self, key: str, error: Exception) -> None:
        super().__init__()
        self._key = key
        self._error: Exception | None = error

    def load(self, ref: BlobRef) -> bytes:
        error = self._error
        if ref.key == self._key and error is not None:
            self._error = None
            raise error
        return BLOBS.load(ref)

    def read(self, key: str, offset: int, length: int) -> bytes:
        return BLOBS.read(key, offset, length)


def test_a_fold_whose_blob_can_not_be_had_now_can_be_tried_again() -> None:
    made = performer(blobs=Failing(GOOD["one"].blob.key, Transient("away")))
    with pytest.raises(Transient):
        made.fold(GOOD["one"])
    assert isinstance(made.fold(GOOD["one"]), Folded)


# -- one turn after the other -------------------------------------------------------------------------------------------


class Turns:
    """A performer that gathers folds, and what was posted for the next turn."""

    def __init__(self, blobs: MemoryBlobs = BLOBS) -> None:
        self.posted: list[Callable[[], None]] = []
        self.made = FoldPerformer("k1", blobs, NOWHERE, self.posted.append)
        self.made.open(Open(PLAN, 1))
        self.outcomes: dict[str, object] = {}

    def fold(self, *names: str) -> None:
        for name in names:
            later = self.made.fold(GOOD[name] if name in GOOD else BAD[name][0])
            assert isinstance(later, Later)
            later.on_complete(partial(self._note, name))

    def _note(self, name: str, result: Folded, error: Exception | None) -> None:
        self.outcomes[name] = error or result

    def next(self) -> None:
        posted, self.posted[:] = self.posted[:], []
        for callback in posted:
            callback()


def test_folds_of_one_turn_are_completed_in_the_next_each_with_its_own_outcome() -> None:
    bug = RuntimeError("a bug")
    turns = Turns(Failing(GOOD["another"].blob.key, bug))
    turns.fold("one", "another", "NaN", "zeros")
    assert (turns.outcomes, len(turns.posted)) == ({}, 1)
    turns.next()
    first, failed, bad, last = turns.outcomes.values()
    assert isinstance(first, Folded) and isinstance(last, Folded)
    assert failed is bug
    assert isinstance(bad, InvalidUpdate) and "holds NaN" in bad.reason
    turns.fold("another")
    turns.next()
    assert isinstance(turns.outcomes["another"], Folded)


def test_a_large_update_is_folded_at_once() -> None:
    turns = Turns()
    assert "not in the store" in refused(
        turns.made, fold(BlobRef(key="updates/s/1/none", size=1_000_001, sha256="0" * 64))
    )
    assert turns.posted == []


# -- a rule that needs every update -------------------------------------------------------------------------------------


@pytest.fixture
def by_median(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan whose rule is the median."""
    monkeypatch.setitem(RULES, "median", documented_median())
    return plan_of(3, rule="median")


def of(plan: Plan, *names: str) -> dict[str, Fold]:
    """Folds of the plan, by client."""
    return {f"c{number}": fold(GOOD[name].blob, plan=plan) for number, name in enumerate(names)}


def test_a_rule_that_needs_every_update_gets_the_accepted_ones_when_the_plan_is_closed(by_median: Plan) -> None:
    folds = of(by_median, "one", "another", "a heavier one", "a far one")
    made = performer(by_median)
    for each in folds.values():
        made.fold(each)
    assert "'w' holds NaN" in refused(made, fold(BAD["NaN"][0].blob, plan=by_median))

    accepted = tuple(entry(client, each) for client, each in list(folds.items())[:3])
    data = partial_of(made, by_median, accepted)

    assert data is not None
    medians, meta = decode(data)
    assert medians["w"].tolist() == [0.5] * 3
    assert medians["d"].tolist() == [0.0] * 2
    assert meta == {"rule": "median", "partial": {"count": 3, "weight": 9}}


def test_an_accepted_update_that_has_changed_in_the_store_is_rejected_at_the_end_and_the_others_count(
    by_median: Plan,
) -> None:
    folds = of(by_median, "one", "another", "a heavier one")
    folds["c3"] = changed = fold(stored(delta(w=0.125)), plan=by_median)
    made = performer(by_median)
    for each in folds.values():
        made.fold(each)
    BLOBS.put(changed.blob.key, b"another content")

    entries = tuple(entry(client, each) for client, each in folds.items())
    closed = made.close(Close(by_median, 1, ledger_of(by_median, entries)))

    assert [(each.client, each.outcome) for each in closed.rejected] == [("c3", "rejected")]
    assert closed.total_weight == sum(each.weight for each in entries[:3])
    ledger = Ledger.model_validate_json(BLOBS.get(closed.ledger.key))
    assert [each.outcome for each in ledger.entries] == ["accepted"] * 3 + ["rejected"]
    assert ledger.total_weight == closed.total_weight
    assert closed.sum is not None
    assert decode(BLOBS.get(closed.sum.key))[0]["w"].tolist() == [0.5] * 3


def test_a_restarted_combiner_gives_the_partial_that_it_would_have_given(by_median: Plan) -> None:
    folds = of(by_median, "one", "another", "a heavier one")
    entries = tuple(entry(client, each) for client, each in folds.items())
    steady, restarted = performer(by_median), performer(by_median)
    for each in folds.values():
        steady.fold(each)
    restarted.fold(folds["c0"])
    restarted.save(Save(str(by_median.plan), 1, entries[:1]))

    restarted = FoldPerformer("k1", BLOBS, NOWHERE)
    assert restarted.open(Open(by_median, 2)).saved == entries[:1]
    for client in ("c1", "c2"):
        restarted.fold(fold(folds[client].blob, plan=by_median, incarnation=2))

    assert partial_of(restarted, by_median, entries, 2) == partial_of(steady, by_median, entries) is not None


def test_large_updates_are_readable_until_the_partial_is_written(by_median: Plan, tmp_path: Path) -> None:
    values = np.random.default_rng(5).standard_normal((3, 400_000)).astype(np.float32)
    model = BLOBS.put("models/large", encode({"w": np.zeros(400_000, np.float32)}))
    plan = by_median.model_copy(update={"model": model, "exponents": (-40,), "plan": PlanKey(session="s", round=4)})
    folds = {f"c{row}": fold(stored(encode({"w": values[row]})), plan=plan) for row in range(3)}
    made = performer(plan, scratch=tmp_path)
    for each in folds.values():
        made.fold(each)
    data = partial_of(made, plan, tuple(entry(client, each) for client, each in folds.items()))
    assert data is not None
    assert decode(data)[0]["w"].tolist() == np.median(values.astype(np.float64), axis=0).tolist()
    assert list(tmp_path.iterdir()) == []
