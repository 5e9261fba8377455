"""The checks that an update passes before a rule adds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmq.aggregation.arrangement import Arrangement
from fedmq.errors import InvalidUpdate
from fedmq.tensors import MAX_COUNTER_DELTA, Spec, TensorRole, TensorSpec
from fedmq.tensors.tensorblob import Source

Floats: TypeAlias = NDArray[np.float64]

MAX_WEIGHT = 2**53
LARGEST_FLOAT = 1e145
"""The square of a larger delta, or the sum of squares, could overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """What an update would add.

    `norm`: L2 norm of the (unweighted) delta over its trainable tensors, by IEEE operations in fixed order. Statistics,
    such as batch-norm variances, and counters have other units.
    `maxima`: the largest |weight * delta| of each tensor, in the order of `Arrangement.names`.
    """

    norm: float
    maxima: Floats


class Verifier:
    """Verifies the updates of one model. Used by one thread at a time."""

    def __init__(self, arrangement: Arrangement) -> None:
        self._arrangement = arrangement
        self._limits = np.array([_limit(arrangement.spec[name]) for name in arrangement.names])
        self._squares = np.empty(arrangement.block)
        self._sums = np.empty(arrangement.block)
        self._buffer = np.empty(arrangement.block * 8, np.uint8)

    def verify(self, update: Source, weight: int) -> Contribution:
        """Reads the update once and returns what it would add.

        Raises `InvalidUpdate` for other names, shapes or dtypes than the spec's, for NaN, infinity or a number beyond
        10^145, for a changed constant, for an integer delta of 2^53 or more, and for a weight that is not an integer
        from 1 to 2^53 - 1. Numbers below 10^-154 count as zero.
        """
        runs = self._arrangement.runs(update.layout)
        if type(weight) is not int or not 1 <= weight < MAX_WEIGHT:
            raise InvalidUpdate(f"the weight is {weight!r} and not an integer from 1 to 2^53 - 1")
        sums = self._sums[: self._arrangement.widest]
        sums.fill(0)
        largest = np.zeros(len(self._arrangement.names))
        with np.errstate(all="ignore"):
            for run in runs:
                known = largest[run.first : run.last]
                for _, numbers in run.blocks(update, self._buffer):
                    squares, part = self._squares[: numbers.size], sums[: numbers.size]
                    np.copyto(squares, numbers)
                    np.multiply(squares, squares, out=squares)
                    np.maximum(known, np.maximum.reduceat(squares, run.offsets), out=known)
                    if isinstance(run.trained, np.ndarray):  # small tensors, in one block
                        np.multiply(squares, run.trained, out=squares)
                    if run.trained is not False:
                        np.add(part, squares, out=part)
        # The root of a rounded square is the very number that was squared.
        np.sqrt(largest, out=largest)
        # NaN fails every comparison.
        fine = largest <= self._limits
        if np.count_nonzero(fine) < fine.size:  # a tenth of the time of `all`
            raise self._fault(largest, int(np.argmin(fine)))
        return Contribution(math.sqrt(_total(sums)), largest * weight)

    def _fault(self, largest: Floats, first: int) -> InvalidUpdate:
        name, value, limit = self._arrangement.names[first], largest[first], self._limits[first]
        if math.isnan(value):
            return InvalidUpdate(f"tensor {name!r} holds NaN")
        if math.isinf(value):
            return InvalidUpdate(f"tensor {name!r} holds infinity")
        if limit == 0:
            return InvalidUpdate(
                f"tensor {name!r} is constant and the update changes it: give it another role in the trainer's roles(), "
                "such as counter for integers, or keep it out of the model, as persistent=False keeps a buffer of PyTorch"
            )
        return InvalidUpdate(f"tensor {name!r} holds {value:.3g}; at most {limit:.3g} is summed")


def l2_norm(update: Source, spec: Spec) -> float:
    """Returns the norm by which updates are clipped, limited and shown. Raises `InvalidUpdate` as `Verifier.verify`."""
    return Verifier(Arrangement(spec)).verify(update, 1).norm


def _limit(tensor: TensorSpec) -> float:
    """Returns the largest |delta| that an update may hold."""
    if tensor.role is TensorRole.CONSTANT:
        return 0.0
    return MAX_COUNTER_DELTA - 1 if tensor.is_whole else LARGEST_FLOAT


def _total(numbers: Floats) -> float:
    """Returns the sum, by halves and at last one by one: numpy's own order of additions is not promised."""
    while numbers.size > 1024:
        half = (numbers.size + 1) // 2
        rest = numbers.size - half
        halves = numbers[:half].copy()
        np.add(halves[:rest], numbers[half:], out=halves[:rest])
        numbers = halves
    return float(np.add.accumulate(numbers)[-1]) if numbers.size else 0.0
