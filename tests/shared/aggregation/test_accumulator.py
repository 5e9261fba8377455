import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq.aggregation import Accumulator, l2_norm
from fedmq.aggregation.arrangement import BLOCK
from fedmq.errors import InvalidUpdate, ProtocolError
from fedmq.tensors import TensorSpec, spec_of
from fedmq.tensors.tensorblob import Array, Source, Weights, encode

MODEL: Weights = {
    "w": np.zeros(3, np.float32),
    "mean": np.zeros(2, np.float32),
    "d": np.zeros((1, 2), np.float64),
    "steps": np.zeros((), np.int64),
    "fixed": np.ones(2, np.float32),
    "mask": np.array([True]),
}
META = {"roles": {"mean": "statistic", "fixed": "constant"}}
SPEC = spec_of(MODEL, META)
ZERO: Weights = {name: np.zeros(tensor.shape, tensor.delta_dtype) for name, tensor in SPEC.items()}
EXPONENTS = {name: -40 for name in SPEC if name != "steps"}


def source(**changed: object) -> Source:
    update: dict[str, Array] = {name: np.array(changed.get(name, zero), zero.dtype) for name, zero in ZERO.items()}
    return Source(encode(update))


def accumulator() -> Accumulator:
    return Accumulator(SPEC, EXPONENTS)


def one_tensor(dtype: str, size: int) -> dict[str, TensorSpec]:
    return spec_of({"x": np.zeros(size, dtype)})


def test_the_mean_is_weighted() -> None:
    total = accumulator()
    total.fold(source(w=[1, 2, 3], d=[[1, 0]], mean=[1, 1]), 1)
    total.fold(source(w=[5, 2, -1], d=[[0, 4]], mean=[2, 0]), 3)
    mean = total.finish()
    assert mean["w"].tolist() == [4.0, 2.0, 0.0]
    assert mean["d"].tolist() == [[0.25, 3.0]]
    assert mean["mean"].tolist() == [1.75, 0.25]
    assert all(values.dtype == np.float64 for values in mean.values())
    assert (total.total_weight, total.count) == (4, 2)


@pytest.mark.parametrize(("steps", "expected"), [([1, 2], 2), ([2, 3], 2), ([0, 1], 0), ([-1, -2], -2), ([5, 9], 7)])
def test_counters_take_the_mean_half_to_even(steps: list[int], expected: int) -> None:
    total = accumulator()
    for value in steps:
        total.fold(source(steps=value), 7)
    assert total.finish()["steps"].shape == ()
    assert total.finish()["steps"] == expected


def test_counters_are_exact_where_float32_is_not() -> None:
    total = accumulator()
    total.fold(source(steps=2**40 + 1), 3)
    total.fold(source(steps=2**40 + 5), 3)
    assert total.finish()["steps"] == 2**40 + 3


def test_constants_have_no_mean() -> None:
    total = accumulator()
    total.fold(source(w=[1, 0, 0]), 1)
    assert "fixed" not in total.finish()
    assert "mask" not in total.finish()


def test_there_is_no_mean_of_nothing() -> None:
    with pytest.raises(ValueError, match="no update"):
        accumulator().finish()


def test_an_update_of_zeros_counts() -> None:
    total = accumulator()
    total.fold(source(w=[2, 0, 0]), 1)
    total.fold(source(), 1)
    assert total.finish()["w"].tolist() == [1.0, 0.0, 0.0]
    assert total.count == 2


def test_verify_says_norm_and_maxima_and_changes_nothing() -> None:
    total = accumulator()
    before = total.dump()
    seen = total.verify(source(w=[3, 0, -4], d=[[0, 12]]), 2)
    assert seen.norm == 13.0
    assert sorted(seen.maxima.tolist()) == [0, 0, 0, 0, 8, 24]
    assert total.dump() == before


def test_the_norm_is_that_of_the_trainable_tensors() -> None:
    changed = source(w=[3, 0, -4], d=[[0, 12]], mean=[100, 200], steps=25)
    assert accumulator().verify(changed, 2).norm == 13.0
    assert l2_norm(changed, SPEC) == 13.0


@pytest.mark.parametrize("seed", range(20))
def test_the_norm_of_any_mix_of_roles_and_sizes_is_that_of_its_trainable_tensors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0, 1, 3, 5000, BLOCK + 7], 12, p=[0.1, 0.3, 0.3, 0.2, 0.1])
    model = {f"t{index:02}": np.zeros(size, rng.choice(["f4", "f8"])) for index, size in enumerate(sizes)}
    roles = {name: str(rng.choice(["trainable", "statistic"])) for name in model}
    update = {name: np.asarray(rng.normal(size=value.shape), value.dtype) for name, value in model.items()}
    trained = [np.asarray(update[name], float) for name, role in roles.items() if role == "trainable"]
    expected = math.sqrt(sum(float(np.square(value).sum()) for value in trained))
    assert math.isclose(l2_norm(Source(encode(update)), spec_of(model, {"roles": roles})), expected, rel_tol=1e-12)


def test_a_delta_that_was_clipped_to_the_greatest_norm_is_accepted_though_it_was_rounded() -> None:
    rounded = source(w=[np.float32(2.0), np.float32(0.6), 1e-4])
    norm = accumulator().verify(rounded, 1).norm
    accumulator().fold(rounded, 1, max_norm=norm / (1 + 5e-7))
    with pytest.raises(InvalidUpdate, match="its norm is"):
        accumulator().fold(rounded, 1, max_norm=norm / (1 + 2e-6))


@pytest.mark.parametrize("weight", [0, -1, 1.0, True, "1", None, 2**53])
def test_a_weight_that_is_no_positive_integer_is_refused(weight: Any) -> None:
    with pytest.raises(InvalidUpdate, match="the weight is"):
        accumulator().verify(source(), weight)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"w": [0, np.nan, 0]}, "'w' holds NaN"),
        ({"d": [[np.nan, np.inf]]}, "'d' holds NaN"),
        ({"w": [0, 0, np.inf]}, "'w' holds infinity"),
        ({"mean": [-np.inf, 0]}, "'mean' holds infinity"),
        ({"d": [[1e160, 0]]}, "'d' holds infinity"),
        ({"d": [[0, -1e146]]}, "'d' holds 1e\\+146; at most 1e\\+145"),
        ({"fixed": [0, 1e-30]}, "'fixed' is constant"),
        ({"mask": [1]}, "'mask' is constant and the update changes it: give it another role"),
        ({"steps": 2**53}, "'steps' holds 9.01e\\+15"),
        ({"steps": -(2**63)}, "'steps' holds 9.22e\\+18"),
    ],
)
def test_values_that_cannot_be_summed_are_refused(changed: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidUpdate, match=reason):
        accumulator().verify(source(**changed), 1)


def test_the_largest_allowed_values_have_a_finite_norm_and_sum() -> None:
    total = accumulator()
    seen = total.fold(source(d=[[1e145, -1e145]], steps=2**53 - 1), 2**53 - 1)
    assert math.isclose(seen.norm, math.sqrt(2) * 1e145)
    np.testing.assert_allclose(total.finish()["d"], [[1e145, -1e145]], rtol=1e-9)


@pytest.mark.parametrize("at", [0, 1, BLOCK - 1, BLOCK, BLOCK + 4])
def test_one_nan_is_found_wherever_it_is(at: int) -> None:
    values = np.ones(BLOCK + 5, np.float32)
    values[at] = np.nan
    total = Accumulator(one_tensor("f4", values.size), {"x": -40})
    with pytest.raises(InvalidUpdate, match="'x' holds NaN"):
        total.verify(Source(encode({"x": values})), 1)


def test_a_missing_or_absurd_exponent_is_named() -> None:
    with pytest.raises(ProtocolError, match="exponent for the tensor 'x' is None"):
        Accumulator(one_tensor("f4", 1), {})
    with pytest.raises(ProtocolError, match="'x' is 9999"):
        Accumulator(one_tensor("f4", 1), {"x": 9999})


def test_a_file_folds_to_the_bytes_that_memory_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    update = {"x": rng.standard_normal(2 * BLOCK + 17).astype(np.float32)}
    spec = spec_of(update)
    blob = encode(update)
    (tmp_path / "update").write_bytes(blob)
    memory, file = Accumulator(spec, {"x": -44}), Accumulator(spec, {"x": -44})
    in_memory = memory.fold(Source(blob), 5)
    with Source(tmp_path / "update") as opened:
        from_file = file.fold(opened, 5)
    assert memory.dump() == file.dump()
    assert in_memory.norm == from_file.norm


def test_the_norm_is_that_of_all_tensors() -> None:
    rng = np.random.default_rng(4)
    update: Weights = {
        "a": rng.standard_normal(BLOCK + 9).astype(np.float32),
        "b": rng.standard_normal(500),
    }
    total = Accumulator(spec_of(update), {"a": -40, "b": -40})
    flat = np.concatenate([update["a"].astype(np.float64), update["b"]])
    assert math.isclose(total.verify(Source(encode(update)), 1).norm, np.linalg.norm(flat), rel_tol=1e-13)


def test_many_small_tensors_sum_like_one_by_one() -> None:
    rng = np.random.default_rng(5)
    update: Weights = {
        f"{i}": (10.0 ** rng.integers(-7, 7) * rng.standard_normal(i % 11)).astype(np.float32) for i in range(60)
    }
    update["large"] = rng.standard_normal(5000).astype(np.float32)
    update["empty"] = np.zeros(0)
    spec = spec_of(update)
    total = Accumulator(spec, dict.fromkeys(spec, -45))
    total.fold(Source(encode(update)), 9)
    for name, values in update.items():
        alone = Accumulator({name: spec[name]}, {name: -45})
        alone.fold(Source(encode({name: values})), 9)
        np.testing.assert_array_equal(total.finish()[name], alone.finish()[name])
        np.testing.assert_allclose(total.finish()[name], values, rtol=0, atol=1e-9 * peak(values))


def peak(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def test_the_order_of_tensors_in_the_blob_makes_no_difference() -> None:
    foreign = (
        b'{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
    )
    data = np.array([3.0, 1.0, 2.0], np.float32).tobytes()
    blob = len(foreign).to_bytes(8, "little") + foreign + data
    ours = {"a": np.array([1, 2], np.float32), "b": np.array([3], np.float32)}
    exponents = {"a": -40, "b": -50}
    left, right = Accumulator(spec_of(ours), exponents), Accumulator(spec_of(ours), exponents)
    left.fold(Source(blob), 2)
    right.fold(Source(encode(ours)), 2)
    assert left.dump() == right.dump()


def test_a_sum_that_could_overflow_is_refused_before_anything_is_added() -> None:
    spec = one_tensor("f8", 2)
    total = Accumulator(spec, {"x": 0})
    update = Source(encode({"x": np.array([1.0, -1.0])}))
    largest = 2**48
    for _ in range(2**14):
        total.fold(update, largest)
    before = total.dump()
    with pytest.raises(InvalidUpdate, match="capacity"):
        total.fold(update, 2**47)
    assert total.dump() == before
    assert total.finish()["x"].tolist() == [1.0, -1.0]


def test_a_sum_is_lost_if_an_update_breaks_while_it_is_folded(tmp_path: Path) -> None:
    values = np.ones(2 * BLOCK, np.float32)
    file = tmp_path / "update"
    file.write_bytes(encode({"x": values}))
    total = Accumulator(spec_of({"x": values}), {"x": -40})
    with Source(file) as opened:
        seen = total.verify(opened, 1)
        with file.open("r+b") as handle:
            handle.truncate(BLOCK * 6)
        with pytest.raises(InvalidUpdate, match="cut short"):
            total.add(opened, 1, seen)
    for use in (total.finish, total.dump, lambda: total.fold(Source(encode({"x": values})), 1)):
        with pytest.raises(RuntimeError, match="lost"):
            use()


def test_the_second_largest_is_kept_through_any_grouping() -> None:
    values = [0.5, 8.0, 2.0, 1.0]
    for split in range(5):
        left, right = accumulator(), accumulator()
        for index, value in enumerate(values):
            (left if index < split else right).fold(source(w=[0, -value, 0]), 2)
        left.fold_partial(Source(right.dump()))
        assert left.second_largest()["w"] == 4.0
        assert left.second_largest()["d"] == 0.0


def test_of_one_update_the_largest_is_taken() -> None:
    total = accumulator()
    total.fold(source(w=[0, -3, 1]), 2)
    assert total.second_largest()["w"] == 6.0
