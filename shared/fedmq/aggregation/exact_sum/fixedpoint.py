"""The place of a number in a sum of integers: exponents, lanes and units.

Integer addition is associative, so a sum of integers does not depend on its order or grouping.
Floats become integers by a *unit*, a power of two of which they are counted in whole multiples.

One range of integers can't hold every update: weights and deltas differ by many powers of ten. So
a tensor's sum has *lanes*. Lane `l` counts in units of `2^(e + 18 l)`, where the exponent `e` of
the tensor is part of the plan, and holds the updates whose largest |weight * delta| lies in
`(2^30, 2^48]` units. An update goes whole, per tensor, into one lane, chosen by nothing but
itself and `e`: the order of the updates makes no difference. A lane exists only if it is used, and a
fitting exponent keeps all the updates of a round in lane 0.

So what rounding loses is less than 2^-31 of an update's own largest value, whatever the exponent.
Lanes hold sums of up to 2^62: four million updates of the size that the plan expects, and
16,384 of the largest size that lane 0 takes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedmq.aggregation.verification import Floats
from fedmq.tensors import Spec

LANE_TOP = 48
"""An update's largest value is at most 2^48 units of its lane: below 2^51, where `MAGIC` works."""
LANE_WIDTH = 18
CAPACITY = 2**62
"""The largest sum of the updates' maxima, in units, that a lane takes."""

_HEADROOM = 8
_FIRST_DELTA = 2.0**-6

MAGIC = 1.5 * 2.0**52
"""Adding it to a float64 below 2^51 rounds that half to even to an integer, and leaves the integer
in the low bits: as int64 the sum's bits are `MAGIC_BITS` plus the integer."""
MAGIC_BITS = int(np.float64(MAGIC).view(np.int64))

Integers = NDArray[np.int64]


def exponents(second_largest: Mapping[str, float], previous: Mapping[str, int]) -> dict[str, int]:
    """Returns the exponents for a plan, by tensor: with 8 bits above `second_largest` before lane 0 is full.

    One outlier does not spoil the next round. A tensor in which nothing changed keeps its previous exponent.
    """
    return {
        name: _exponent(second_largest[name]) if second_largest.get(name) else exponent
        for name, exponent in previous.items()
    }


def initial_exponents(spec: Spec, weights: Iterable[int]) -> dict[str, int]:
    """Returns the exponents for a session's first plan: from the announced weights, and a guess of |delta| = 2^-6.

    A wrong guess costs no accuracy; it may cost a second lane, in memory. Counters and opaque tensors have no
    exponent in a plan.
    """
    largest = heapq.nlargest(2, weights) or [1]
    exponent = _exponent(largest[-1] * _FIRST_DELTA)
    return {name: exponent for name, tensor in spec.items() if not tensor.is_whole}


def _exponent(value: float) -> int:
    fraction, power = math.frexp(value)
    return power - (fraction == 0.5) + _HEADROOM - LANE_TOP


def ceilings(maxima: Floats) -> NDArray[np.int32]:
    """Returns the smallest powers of two that are not below `maxima`, as exponents. The exponent of 0 is 0."""
    fraction, power = np.frexp(maxima)
    power -= fraction == 0.5
    return power


def place(ceilings: NDArray[np.int32], tensor_exponents: Integers) -> tuple[Integers, Integers]:
    """Returns for the `ceilings` of an update the lane of each tensor, and the exponent of that lane's unit."""
    lanes = -((tensor_exponents + LANE_TOP - ceilings) // LANE_WIDTH)
    return lanes, tensor_exponents + LANE_WIDTH * lanes


def lane_zero(tensor_exponents: Integers) -> tuple[Floats, Floats]:
    """Returns the bounds of the maxima in lane 0 per tensor: above the first bound, and at most the second."""
    return np.ldexp(1.0, tensor_exponents + LANE_TOP - LANE_WIDTH), np.ldexp(1.0, tensor_exponents + LANE_TOP)
