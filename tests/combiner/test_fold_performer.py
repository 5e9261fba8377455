"""Updates that a combiner folds together: each is folded or refused as if it had come alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.aggregation import Accumulator, Contribution, Stack
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import FedMQError, InvalidUpdate, Refused, Transient
from fedmq.runtime.later import Later
from fedmq.tensors import spec_of
from fedmq.tensors.tensorblob import Source, Weights, encode
from fedmq_combiner.fold_performer import MOST_HEADER, FoldPerformer
from fedmq_combiner.operations import SMALL, Close, Drop, Fold, Folded, Open
from fedmq_combiner.running_sum import RunningSum, batches
from fedmq_schemas.messages import BlobRef, Plan, PlanKey
from fedmq_schemas.records import Ledger

MODEL: Weights = {"d": np.zeros(2), "n": np.zeros((), np.int64), "w": np.zeros(3, np.float32)}
LONGEST = 1e6
BLOBS = MemoryBlobs()
BASE = BLOBS.put("models/base", encode(MODEL))
NOWHERE = Path(tempfile.gettempdir()) / "nothing-is-written-here"


def plan_of(number: int = 1, **changes: object) -> Plan:
    plan = Plan(
        plan=PlanKey(session="s", round=number), epoch=1, reply_to="reducer", model=BASE, exponents=(-40, -40),
        timeout=60.0, rounds=9, random_seed=1, max_norm=LONGEST,
    )  # fmt: skip
    return plan.model_copy(update=changes)


PLAN = plan_of()


def performer(*plans: Plan, blobs: MemoryBlobs = BLOBS) -> FoldPerformer:
    made = FoldPerformer("k1", blobs, NOWHERE)
    for plan in plans or (PLAN,):
        made.open(Open(plan, 1))
    return made


def stored(data: bytes, **changes: object) -> BlobRef:
    ref = BLOBS.put("updates/s/1/blob", data)
    return BLOBS.put(f"updates/s/1/{ref.sha256}", data).model_copy(update=changes)


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
    "oversize": (fold(stored(delta(w=0.5), size=MOST_HEADER * 2)), "larger than an update of this model can be"),
}


def partial_of(made: FoldPerformer, plan: Plan = PLAN) -> bytes | None:
    ledger = Ledger(
        session="s", round=1, attempt=1, parent=BASE, exponents=(), total_weight=0, entries=(), plans=(plan.plan,)
    )
    closed = made.close(Close(plan, 1, ledger))
    return None if closed.sum is None else BLOBS.get(closed.sum.key)


def told(outcome: Folded | Exception) -> float | str:
    """The norm or the reason."""
    if isinstance(outcome, Folded):
        return outcome.norm
    assert isinstance(outcome, InvalidUpdate)
    return outcome.reason


@given(
    st.lists(st.sampled_from([*GOOD, *GOOD, *BAD]), min_size=1, max_size=12),
    st.lists(st.integers(0, 11), max_size=3),
)
def test_folds_in_batches_of_any_division_end_as_one_by_one_and_bad_ones_leave_no_trace(
    names: list[str], cuts: list[int]
) -> None:
    folds = [GOOD[name] if name in GOOD else BAD[name][0] for name in names]
    together, alone, without = performer(), performer(), performer()
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(folds)}), len(folds)]
    batches = [folds[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    outcomes = [told(outcome) for batch in batches for outcome in together.fold_all(batch)]
    assert outcomes == [told(outcome) for each in folds for outcome in alone.fold_all([each])]
    for name, outcome in zip(names, outcomes, strict=True):
        assert isinstance(outcome, float) if name in GOOD else BAD[name][1] in str(outcome)
    for name in names:
        if name in GOOD:
            without.fold_all([GOOD[name]])
    assert partial_of(together) == partial_of(alone) == partial_of(without)


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many updates went into a sum, call by call."""
    counts: list[int] = []
    fold_all = Accumulator.fold_all

    def counted(self: Accumulator, updates: Stack, weights: Sequence[int], seen: Sequence[Contribution]) -> bool:
        is_folded = fold_all(self, updates, weights, seen)
        counts.extend([updates.count] * is_folded)
        return is_folded

    monkeypatch.setattr(Accumulator, "fold_all", counted)
    return counts


def test_updates_that_are_alike_are_folded_at_once(stacked: list[int]) -> None:
    performer().fold_all([GOOD["one"], GOOD["another"], GOOD["zeros"], GOOD["one"]])
    assert stacked == [4]


def test_one_of_another_lane_makes_them_be_folded_one_by_one(stacked: list[int]) -> None:
    performer().fold_all([GOOD["one"], GOOD["a far one"], GOOD["another"]])
    assert stacked == [1, 1, 1]


def test_of_a_stack_only_what_exceeds_the_capacity_is_refused() -> None:
    spec = spec_of({"x": np.zeros(1, np.float32)})
    largest, small = (Source(encode({"x": np.array([value], np.float32)})) for value in (1.0, 2.0**-17))
    summed = RunningSum(plan_of(max_norm=None), Accumulator(spec, {"x": -1}), SMALL)
    for _ in range(16):
        outcomes = summed.fold([largest] * 1023, [2**47] * 1023)
        assert all(isinstance(outcome, Folded) for outcome in outcomes)
    summed.fold([largest] * 15, [2**47] * 15)

    outcomes = summed.fold([largest, small, largest, small], [2**47] * 4)

    assert [isinstance(outcome, Folded) for outcome in outcomes] == [True, False, False, False]
    assert all("capacity" in outcome.reason for outcome in outcomes if isinstance(outcome, FedMQError))
    assert (summed.accumulator.count, summed.accumulator.total_weight) == (2**14, 2**61)
    assert summed.accumulator.mean()["x"].tolist() == [1.0]


def test_what_still_fits_is_folded_after_one_that_does_not() -> None:
    spec = spec_of({"x": np.zeros(1, np.float32)})
    largest, half = (Source(encode({"x": np.array([value], np.float32)})) for value in (1.0, 0.5))
    summed = RunningSum(plan_of(max_norm=None), Accumulator(spec, {"x": -1}), SMALL)
    summed.fold([largest] * (2**14 - 1), [2**47] * (2**14 - 1))

    outcomes = summed.fold([half, largest, half, half], [2**47] * 4)

    assert [isinstance(outcome, Folded) for outcome in outcomes] == [True, False, True, False]
    assert summed.accumulator.count == 2**14 + 1


def test_a_far_norm_in_a_stack_is_refused_by_the_policy_and_not_by_a_sum_without_one() -> None:
    plan = plan_of(2, max_norm=None)
    long, _ = BAD["too long"]
    made = performer(PLAN, plan)
    refused, allowed = made.fold_all([long, fold(long.blob, plan=plan)])
    assert isinstance(refused, InvalidUpdate) and isinstance(allowed, Folded)


def test_folds_of_several_plans_go_each_into_its_own_sum() -> None:
    second = plan_of(2)
    both, only = performer(PLAN, second), performer(PLAN, second)
    mine = [GOOD["one"], GOOD["another"]]
    others = [fold(each.blob, 5, second) for each in (GOOD["zeros"], GOOD["one"])]
    outcomes = both.fold_all([mine[0], others[0], others[1], mine[1]])
    assert all(isinstance(outcome, Folded) for outcome in outcomes)
    only.fold_all(mine)
    only.fold_all(others)
    assert partial_of(both) == partial_of(only) is not None
    assert partial_of(both, second) == partial_of(only, second) is not None


def test_folds_of_a_plan_that_was_dropped_are_refused_and_no_others() -> None:
    gone = plan_of(2)
    made = performer(PLAN, gone)
    made.drop(Drop(str(gone.plan), 1))
    folds = [GOOD["one"], fold(GOOD["one"].blob, plan=gone), fold(GOOD["one"].blob, incarnation=2), GOOD["another"]]
    first, dropped, other_life, last = made.fold_all(folds)
    assert isinstance(first, Folded) and isinstance(last, Folded)
    for outcome in (dropped, other_life):
        assert isinstance(outcome, Refused) and "has been dropped" in outcome.reason


class Failing(MemoryBlobs):
    """Fails on loading one blob."""

    def __init__(self, key: str, error: Exception) -> None:
        super().__init__()
        self._key = key
        self._error = error

    def load(self, ref: BlobRef) -> bytes:
        if ref.key == self._key:
            raise self._error
        return BLOBS.load(ref)

    def read(self, key: str, offset: int, length: int) -> bytes:
        return BLOBS.read(key, offset, length)


@pytest.mark.parametrize("error", [Transient("away"), RuntimeError("a bug")])
def test_a_blob_that_can_not_be_had_now_costs_no_other_fold_of_the_batch(error: Exception) -> None:
    made = performer(blobs=Failing(GOOD["another"].blob.key, error))
    first, failed, last = made.fold_all([GOOD["one"], GOOD["another"], GOOD["zeros"]])
    assert isinstance(first, Folded) and isinstance(last, Folded)
    assert failed is error


def test_a_bug_in_one_sum_costs_nothing_that_went_into_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told that its update failed must not be in the sum."""
    second = plan_of(2)
    made = performer(PLAN, second)
    whole: Callable[..., object] = Accumulator.verify_all
    bug = RuntimeError("a bug")

    def verify_all(self: Accumulator, updates: Stack, weights: Sequence[int]) -> object:
        if 77 in weights:
            raise bug
        return whole(self, updates, weights)

    monkeypatch.setattr(Accumulator, "verify_all", verify_all)
    first, failed, last = made.fold_all([GOOD["one"], fold(GOOD["one"].blob, 77, second), GOOD["another"]])
    assert isinstance(first, Folded) and isinstance(last, Folded)
    assert failed is bug


# -- one effect at a time -----------------------------------------------------------------------------------------------


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


def test_folds_of_one_turn_are_folded_together_on_the_next(stacked: list[int]) -> None:
    turns = Turns()
    turns.fold("one", "another", "zeros")
    assert (stacked, turns.outcomes, len(turns.posted)) == ([], {}, 1)
    turns.next()
    assert stacked == [3]
    assert all(isinstance(outcome, Folded) for outcome in turns.outcomes.values()) and len(turns.outcomes) == 3
    turns.fold("one")
    turns.next()
    assert stacked == [3, 1]


def test_a_fold_that_is_refused_is_completed_with_its_error_and_the_others_with_their_results() -> None:
    turns = Turns()
    turns.fold("one", "NaN", "another")
    turns.next()
    first, refused, last = turns.outcomes.values()
    assert isinstance(first, Folded) and isinstance(last, Folded)
    assert isinstance(refused, InvalidUpdate) and "holds NaN" in refused.reason


@pytest.mark.parametrize("error", [Transient("away"), RuntimeError("a bug")])
def test_a_fold_that_meets_an_error_is_completed_with_it_and_no_other_is(error: Exception) -> None:
    turns = Turns(Failing(GOOD["another"].blob.key, error))
    turns.fold("one", "another")
    turns.next()
    assert isinstance(turns.outcomes["one"], Folded)
    assert turns.outcomes["another"] is error


def test_a_fold_that_is_performed_off_the_thread_is_folded_at_once() -> None:
    large = fold(BlobRef(key="updates/s/1/none", size=SMALL + 1, sha256="0" * 64))
    turns = Turns()
    with pytest.raises(InvalidUpdate):
        turns.made.fold(large)
    assert isinstance(performer().fold(GOOD["one"]), Folded)
    with pytest.raises(InvalidUpdate, match="holds NaN"):
        performer().fold(BAD["NaN"][0])
    assert turns.posted == []


# -- batches ------------------------------------------------------------------------------------------------------------


def announced(size: int, number: int = 1, incarnation: int = 1) -> Fold:
    ref = BlobRef(key="updates/s/1/x", size=size, sha256="0" * 64)
    return fold(ref, plan=plan_of(number), incarnation=incarnation)


@st.composite
def folds(draw: st.DrawFn) -> Fold:
    size = draw(st.sampled_from([0, 1, SMALL // 3, SMALL // 2, SMALL - 1, SMALL, SMALL + 1]))
    return announced(size, draw(st.integers(1, 2)), draw(st.integers(1, 2)))


@given(st.lists(folds(), min_size=1, max_size=20))
def test_a_batch_is_of_one_incarnation_of_a_plan_and_small_or_alone_and_as_large_as_may_be(these: list[Fold]) -> None:
    parts = [list(part) for part in batches(these)]
    assert [each for part in parts for each in part] == these
    for part in parts:
        assert len({(each.plan, each.incarnation) for each in part}) == 1
        assert len(part) == 1 or sum(each.blob.size for each in part) <= SMALL
    for part, following in zip(parts, parts[1:], strict=False):
        last, first = part[-1], following[0]
        is_other = (last.plan, last.incarnation) != (first.plan, first.incarnation)
        assert is_other or sum(each.blob.size for each in part) + first.blob.size > SMALL
