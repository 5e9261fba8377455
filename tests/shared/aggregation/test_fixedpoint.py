import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.aggregation import Accumulator, exponents, initial_exponents
from fedmq.aggregation.exact_sum.fixedpoint import LANE_TOP, LANE_WIDTH, MAGIC, MAGIC_BITS, ceilings, place
from fedmq.aggregation.exact_sum.places import Places
from fedmq.tensors import spec_of
from fedmq.tensors.tensorblob import Array, Source, encode

TENSOR = spec_of({"x": np.zeros(1, np.float32)})
DELTAS = (1e-7, 1e-3, 1.0, 100.0)
WEIGHTS = {
    "1": [1] * 8,
    "32": [32] * 8,
    "2000": [2000] * 8,
    "1 to 10^6": [1, 3, 40, 500, 6001, 70_000, 800_000, 1_000_000],
    "2^31": [2**31] * 8,
}


def updates(scale: float, count: int, dtype: str = "f4") -> list[Array]:
    rng = np.random.default_rng(11)
    return [(scale * rng.standard_normal(1000)).astype(dtype) for _ in range(count)]


def mean_of(deltas: list[Array], weights: list[int], exponent: int) -> Array:
    total = Accumulator(spec_of({"x": deltas[0]}), {"x": exponent})
    for delta, weight in zip(deltas, weights, strict=True):
        total.fold(Source(encode({"x": delta})), weight)
    return total.finish()["x"]


def reference(deltas: list[Array], weights: list[int]) -> Array:
    columns = zip(*(delta.tolist() for delta in deltas), strict=True)
    sums = [sum(Fraction(value) * weight for value, weight in zip(column, weights, strict=True)) for column in columns]
    return np.array([float(total / sum(weights)) for total in sums])


@pytest.mark.parametrize("scale", DELTAS)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("exponent", ["planned", "guessed", "absurd"])
def test_the_error_is_below_one_in_a_billion(scale: float, weights: list[int], exponent: str) -> None:
    deltas = updates(scale, len(weights))
    planned = {"x": sorted(scale * 4 * weight for weight in weights)[-2]}
    chosen = {
        "planned": exponents(planned, {"x": 0})["x"],
        "guessed": initial_exponents(TENSOR, weights)["x"],
        "absurd": 77,
    }[exponent]
    mean, exact = mean_of(deltas, weights, chosen), reference(deltas, weights)
    error = np.abs(mean - exact).max() / np.abs(exact).max()
    assert error <= (1e-10 if exponent == "planned" else 1e-9)


def test_deltas_of_any_size_share_a_sum() -> None:
    deltas = [updates(scale, 1)[0] for scale in DELTAS]
    weights = [2**31, 1_000_000, 2000, 1]
    mean, exact = mean_of(deltas, weights, -44), reference(deltas, weights)
    np.testing.assert_allclose(mean, exact, rtol=0, atol=1e-9 * np.abs(exact).max())


@pytest.mark.parametrize("scale", [1e-140, 1e-40, 1e40, 1e140])
def test_float64_tensors_of_any_size_are_summed(scale: float) -> None:
    deltas = updates(scale, 3, "f8")
    mean, exact = mean_of(deltas, [1, 2, 3], -40), reference(deltas, [1, 2, 3])
    np.testing.assert_allclose(mean, exact, rtol=0, atol=1e-9 * np.abs(exact).max())


def test_subnormal_float32_is_summed() -> None:
    tiny = np.array([1e-45, -3e-45, 0.0], np.float32)
    assert mean_of([tiny, tiny], [1, 1], 0).tolist() == tiny.tolist()


@given(
    st.floats(1e-150, 1e150) | st.sampled_from([2.0**power for power in range(-60, 60)]),
    st.integers(-200, 200),
)
def test_a_maximum_fills_between_30_and_48_bits_of_its_lane(value: float, exponent: int) -> None:
    maxima, planned = np.array([value]), np.array([exponent])
    lanes, units = place(ceilings(maxima), planned)
    assert units[0] == exponent + LANE_WIDTH * lanes[0]
    exact = Fraction(value) / Fraction(2) ** int(units[0])
    assert exact > 2 ** (LANE_TOP - LANE_WIDTH)
    in_units = Places(ceilings(maxima), planned, maxima > 0).in_units(maxima)
    assert exact <= in_units[int(lanes[0])][0] <= 2**LANE_TOP


@given(st.floats(-(2.0**51), 2.0**51, exclude_min=True, exclude_max=True))
def test_the_magic_number_rounds_half_to_even(value: float) -> None:
    bits = int((np.float64(value) + MAGIC).view(np.int64))
    assert bits - MAGIC_BITS == round(value)


def test_a_planned_exponent_leaves_eight_bits_above_the_second_largest() -> None:
    planned = exponents({"x": 1.0}, {"x": 3})["x"]
    maxima, exponent = np.array([1.0, 256.0, 257.0, 0.0]), np.array([planned] * 4)
    in_units = Places(ceilings(maxima), exponent, maxima > 0).in_units(maxima)
    assert in_units[0].tolist() == [2**40, 2**48, 0, 0]
    assert in_units[1].tolist() == [0, 0, math.ceil(257 * 2**40 / 2**LANE_WIDTH), 0]


def test_a_tensor_that_did_not_change_keeps_its_exponent() -> None:
    assert exponents({"x": 0.0, "y": 1.0}, {"x": 3, "y": 3, "z": 4}) == {"x": 3, "y": -40, "z": 4}


def test_the_first_exponents_come_from_the_second_largest_weight() -> None:
    spec = spec_of({"x": np.zeros(1), "n": np.zeros(1, int)})
    guess = initial_exponents(spec, [64, 10**9, 3])
    assert guess == {"x": -40} == initial_exponents(spec, iter([64]))
    assert initial_exponents(spec, []) == {"x": -46}
    assert math.ldexp(1.0, LANE_TOP + guess["x"]) == 256 * 64 * 2.0**-6
