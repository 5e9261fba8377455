"""Updates that are read side by side give what they give one by one, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.aggregation import Accumulator, Contribution, Stack, stacks
from fedmq.aggregation.arrangement import _SMALL, BLOCK
from fedmq.aggregation.stack import MOST_BYTES
from fedmq.errors import InvalidUpdate
from fedmq.tensors import TensorRole, spec_of
from fedmq.tensors.tensorblob import Source, Weights, encode

MODEL: Weights = {
    "a": np.zeros((2, 3), np.float32),
    "b": np.zeros(3, np.float32),
    "constant": np.ones(2, np.float32),
    "d": np.zeros(4, np.float64),
    "empty": np.zeros((0, 2), np.float32),
    "just": np.zeros(_SMALL, np.float64),
    "large": np.zeros(_SMALL + 1, np.float32),
    "mask": np.array([True]),
    "n": np.zeros((), np.int64),
    "n32": np.zeros(2, np.int32),
    "small": np.zeros(_SMALL - 1, np.float32),
}
SPEC = spec_of(MODEL, {"roles": {"b": "statistic", "constant": "constant"}})
EXPONENTS = dict.fromkeys(SPEC, -40)
WEIGHTS = st.integers(1, 2000) | st.integers(1, 2**53 - 1) | st.just(2**53 - 1)

Update = tuple[Source, int]


def update_of(rng: np.random.Generator, weight: int, is_alike: bool) -> Update:
    """Random deltas: alike ones go into lane 0 of each tensor, others anywhere; a fifth of the tensors are zeros."""
    deltas: Weights = {}
    for name, tensor in SPEC.items():
        power = rng.uniform(32, 47)
        if tensor.role is TensorRole.COUNTER:
            count = int(2.0**power / weight) if is_alike else int(rng.integers(-(2**53) + 1, 2**53))
            values = np.full(tensor.shape, count)
        else:
            size = 2.0 ** (power - 40) / weight if is_alike else 10.0 ** rng.uniform(-35, 35)
            values = rng.uniform(0.5, 1, tensor.shape) * rng.choice([-1, 1], tensor.shape) * size
        is_zero = tensor.role is TensorRole.CONSTANT or rng.random() < 0.2
        deltas[name] = np.zeros(tensor.shape, tensor.delta_dtype) if is_zero else values.astype(tensor.delta_dtype)
    return Source(encode(deltas)), weight


@st.composite
def updates(draw: st.DrawFn, is_alike: bool) -> Update:
    return update_of(np.random.default_rng(draw(st.integers(0, 2**32))), draw(WEIGHTS), is_alike)


def accumulator() -> Accumulator:
    return Accumulator(SPEC, EXPONENTS)


def source(**changed: object) -> Source:
    return Source(
        encode({name: np.full(tensor.shape, changed.get(name, 0), tensor.delta_dtype) for name, tensor in SPEC.items()})
    )


def one_by_one(these: Sequence[Update]) -> tuple[Accumulator, list[Contribution]]:
    total = accumulator()
    return total, [total.add(*update) for update in these]


def divided(these: Sequence[Update], cuts: Sequence[bool]) -> list[list[Update]]:
    """The updates in groups: a new one begins where a cut is."""
    groups: list[list[Update]] = []
    for update, is_cut in zip(these, [True, *cuts], strict=False):
        if is_cut:
            groups.append([])
        groups[-1].append(update)
    return groups


def assert_same(
    one: Accumulator, seen: Sequence[Contribution], other: Accumulator, also: Sequence[Contribution]
) -> None:
    assert other.dump() == one.dump()
    assert (other.total_weight, other.count) == (one.total_weight, one.count)
    assert other.second_largest() == one.second_largest()
    assert [contribution.norm for contribution in also] == [contribution.norm for contribution in seen]
    for first, second in zip(seen, also, strict=True):
        assert first.maxima.tobytes() == second.maxima.tobytes()


def verified(total: Accumulator, stack: Stack, weights: Sequence[int]) -> list[Contribution]:
    found = []
    for seen in total.verify_all(stack, weights):
        assert isinstance(seen, Contribution), seen
        found.append(seen)
    return found


@given(st.lists(updates(is_alike=True), min_size=1, max_size=9), st.lists(st.booleans(), min_size=8, max_size=8))
def test_updates_in_stacks_of_any_division_give_the_same_bytes_as_one_by_one(
    these: list[Update], cuts: list[bool]
) -> None:
    total, found = accumulator(), []
    for group in divided(these, cuts):
        stack, weights = Stack([blob for blob, _ in group]), [weight for _, weight in group]
        contributions = verified(total, stack, weights)
        assert total.fold_all(stack, weights, contributions)
        found += contributions
    assert_same(*one_by_one(these), total, found)


@given(
    st.lists(updates(is_alike=True) | updates(is_alike=False), min_size=1, max_size=9),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_a_stack_that_goes_into_several_lanes_changes_nothing_and_its_updates_are_folded_one_by_one(
    these: list[Update], cuts: list[bool]
) -> None:
    total, found = accumulator(), []
    for group in divided(these, cuts):
        stack, weights = Stack([blob for blob, _ in group]), [weight for _, weight in group]
        contributions = verified(total, stack, weights)
        before = total.dump()
        if not total.fold_all(stack, weights, contributions):
            assert len(group) > 1
            assert total.dump() == before
            for (blob, weight), contribution in zip(group, contributions, strict=True):
                total.fold(blob, weight, contribution)
        found += contributions
    assert_same(*one_by_one(these), total, found)


def test_updates_of_several_lanes_are_not_folded_together() -> None:
    for far in (source(a=1e-20), source(a=1e20), source(n=1)):
        total, stack = accumulator(), Stack([source(a=1.0), far])
        assert not total.fold_all(stack, [1, 1], verified(total, stack, [1, 1]))
        assert (total.dump(), total.count) == (accumulator().dump(), 0)


def test_a_stack_that_exceeds_the_capacity_changes_nothing() -> None:
    total = Accumulator(spec_of({"x": np.zeros(2, np.float32)}), {"x": -1})
    blob = Source(encode({"x": np.array([1.0, -1.0], np.float32)}))
    stack, weights = Stack([blob] * 2**10), [2**47] * 2**10
    seen = verified(total, stack, weights)
    for _ in range(15):
        total.fold_all(stack, weights, seen)
    total.fold_all(Stack([blob] * 1023), weights[1:], seen[1:])
    before = total.dump()
    with pytest.raises(InvalidUpdate, match="capacity"):
        total.fold_all(Stack([blob] * 2), weights[:2], seen[:2])
    assert total.dump() == before
    total.fold(blob, 2**47, seen[0])
    assert total.mean()["x"].tolist() == [1.0, -1.0]


def test_rows_of_several_blocks_can_be_folded_by_another_sum_than_verified_them() -> None:
    values = np.linspace(-2, 2, 2 * BLOCK + 3, dtype=np.float32)
    spec, exponents = spec_of({"x": values}), {"x": -40}
    blobs = [Source(encode({"x": np.roll(values, shift)})) for shift in (0, BLOCK // 2)]
    one, other = Accumulator(spec, exponents), Accumulator(spec, exponents)
    seen = [one.add(blob, 3) for blob in blobs]
    other.fold_all(Stack(blobs), [3, 3], seen)
    assert_same(one, seen, other, verified(one, Stack(blobs), [3, 3]))


FAULTS: dict[str, Source] = {
    "'a' holds NaN": source(a=np.nan),
    "'large' holds infinity": source(large=np.inf),
    r"'d' holds 1e\+146": source(d=1e146),
    "'constant' is constant": source(constant=1e-30),
    r"'n' holds 9.01e\+15": source(n=2**53),
}


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("reason", FAULTS)
def test_a_bad_update_in_a_stack_is_named_and_the_others_are_seen_as_alone(reason: str, at: int) -> None:
    good, total = [source(a=1.0, n=3), source(d=-2.0, small=0.25)], accumulator()
    these = [*good[:at], FAULTS[reason], *good[at:]]
    found = total.verify_all(Stack(these), [7, 8, 9])
    with pytest.raises(InvalidUpdate, match=reason) as alone:
        total.verify(these[at], 1)
    refused = found[at]
    assert isinstance(refused, InvalidUpdate) and refused.reason == alone.value.reason
    for which, seen in enumerate(found):
        if which != at:
            expected = total.verify(these[which], 7 + which)
            assert isinstance(seen, Contribution)
            assert (seen.norm, seen.maxima.tobytes()) == (expected.norm, expected.maxima.tobytes())


@pytest.mark.parametrize("weight", [0, -1, 2**53])
def test_a_wrong_weight_in_a_stack_is_its_own_fault_only(weight: int) -> None:
    found = accumulator().verify_all(Stack([source(a=1.0)] * 3), [1, weight, 2**53 - 1])
    assert isinstance(found[0], Contribution) and isinstance(found[2], Contribution)
    assert isinstance(found[1], InvalidUpdate) and f"the weight is {weight}" in found[1].reason


def test_a_stack_of_another_model_is_refused_whole() -> None:
    other = Source(encode({"other": np.zeros(1, np.float32)}))
    with pytest.raises(InvalidUpdate, match="the unknown 'other'"):
        accumulator().verify_all(Stack([other, other]), [1, 1])


def unpadded(deltas: Weights) -> bytes:
    """A blob whose tensors lie at odd places, as another program may write it."""
    blob = encode(deltas)
    length = int.from_bytes(blob[:8], "little")
    text = blob[8 : 8 + length].rstrip()
    text += b" " * (1 + len(text) % 2)
    assert json.loads(text) and len(text) % 2
    return len(text).to_bytes(8, "little") + text + blob[8 + length :]


def test_blobs_whose_tensors_are_not_aligned_can_be_stacked() -> None:
    deltas: list[Weights] = [{"x": np.array([1.5, -value]), "y": np.full(3, value, "f4")} for value in (1.0, 2.0, 3.0)]
    spec = spec_of(deltas[0])
    exponents = dict.fromkeys(spec, -40)
    aligned, stacked = Accumulator(spec, exponents), Accumulator(spec, exponents)
    for each in deltas:
        aligned.add(Source(encode(each)), 5)
    stack = Stack([Source(unpadded(each)) for each in deltas])
    stacked.fold_all(stack, [5] * 3, verified(stacked, stack, [5] * 3))
    assert stacked.dump() == aligned.dump()


# -- which are stacked --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Source]]:
    """Sources by what they are: two layouts in memory, one of them large, and a file of the first layout."""
    small, large = encode({"x": np.ones(10, np.float32)}), encode({"x": np.ones(MOST_BYTES // 12, np.float32)})
    file = tmp_path_factory.mktemp("updates") / "update"
    file.write_bytes(small)
    with Source(file) as opened:
        yield {"small": Source(small), "large": Source(large), "file": opened}


@given(st.lists(st.sampled_from(["small", "small", "small", "large", "large", "file"]), max_size=30))
def test_only_updates_of_one_layout_in_memory_are_stacked_and_no_more_than_fit_the_cache(
    kinds: dict[str, Source], names: list[str]
) -> None:
    parts = [names[part] for part in stacks([kinds[name] for name in names])]
    assert [name for part in parts for name in part] == names
    for part in parts:
        assert part and set(part) in ({"small"}, {"large"}, {"file"})
        assert part[0] != "file" or len(part) == 1
        assert len(part) == 1 or len(part) * kinds[part[0]].layout.size <= MOST_BYTES
        Stack([kinds[name] for name in part])
    for part, following in zip(parts, parts[1:], strict=False):
        is_full = (len(part) + 1) * kinds[part[0]].layout.size > MOST_BYTES
        assert is_full or part[0] != following[0] or part[0] == "file"


def test_a_full_stack_is_followed_by_the_next() -> None:
    blob = Source(encode({"x": np.ones(1000, np.float32)}))
    most = MOST_BYTES // blob.layout.size
    parts = list(stacks([blob] * (2 * most + 1)))
    assert parts == [slice(0, most), slice(most, 2 * most), slice(2 * most, 2 * most + 1)]
    assert list(stacks([])) == []


def test_an_update_that_is_larger_than_the_cache_is_a_stack_of_its_own() -> None:
    large = Source(encode({"x": np.ones(MOST_BYTES, np.float32)}))
    assert list(stacks([large, large])) == [slice(0, 1), slice(1, 2)]
