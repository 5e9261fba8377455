"""The integers of a sum: one flat int64 array per lane, over all tensors of the model.

A lane's memory is allocated as zeros and touched only where a tensor uses the lane, so unused memory costs nothing.
Each addition of floats leaves `MAGIC_BITS` in the integers (see `fixedpoint`). They are counted per tensor and
subtracted when the sum is read, which is cheaper than subtracting them each time. Meanwhile the integers wrap around
modulo 2^64; the sums themselves stay below 2^62.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.aggregation.arrangement import BLOCK
from fedmq.aggregation.exact_sum.fixedpoint import CAPACITY, MAGIC, MAGIC_BITS, Integers
from fedmq.aggregation.verification import Floats
from fedmq.errors import InvalidUpdate
from fedmq.tensors.tensorblob import Array


class Lanes:
    """Sums of `elements` integers that belong to `tensors` tensors, in lanes made on first use."""

    def __init__(self, elements: int, tensors: int) -> None:
        self._elements = elements
        self._tensors = tensors
        self._integers: dict[int, Integers] = {}
        self._magic: dict[int, Integers] = {}
        self.maxima: dict[int, Integers] = {}
        """By lane: per tensor, the sum of the updates' maxima in units. 0: the lane is unused."""

    def reserve(self, maxima: dict[int, Integers]) -> dict[int, Integers]:
        """Returns what `maxima` would be with these. Raises `InvalidUpdate` if a tensor's sum could exceed 2^62."""
        after = {}
        for lane, more in maxima.items():
            before = self.maxima.get(lane)
            total = more if before is None else before + more
            if np.count_nonzero(total > CAPACITY):
                raise InvalidUpdate(f"the capacity of the sum is used up: lane {lane} could pass 2^62")
            after[lane] = total
        return after

    def open(self, maxima: dict[int, Integers]) -> None:
        """Sets the maxima that `reserve` returned, and makes the lanes that are new."""
        for lane, total in maxima.items():
            self.maxima[lane] = total
            if lane not in self._integers:
                self._integers[lane] = np.zeros(self._elements, np.int64)
                self._magic[lane] = np.zeros(self._tensors, np.int64)

    def add(self, lane: int, at: int, values: Array, scale: Floats, scratch: Floats) -> None:
        """Adds `values * scale`, rounded half to even, from element `at` on.

        The products must lie below 2^51. `scale` is one number, or as many as there are values. Leaves `MAGIC_BITS`
        behind: `count_magic` must be called once for each tensor.
        """
        rounded = scratch[: values.size]
        np.multiply(values, scale, out=rounded, dtype=np.float64)
        np.add(rounded, MAGIC, out=rounded)
        self.add_integers(lane, at, rounded.view(np.int64))

    def count_magic(self, lane: int, first: int, last: int) -> None:
        """Notes that an update was added to the tensors `first` to `last` (exclusive) by `add`."""
        self._magic[lane][first:last] += 1

    def add_integers(self, lane: int, at: int, values: NDArray[Any]) -> None:
        """Adds integers in the lane's units from element `at` on."""
        sums = self._integers[lane][at : at + values.size]
        np.add(sums, values, out=sums)

    def blocks(self, lane: int, tensor: int, at: int, count: int) -> Iterator[tuple[int, Integers]]:
        """Yields the sums of a tensor, whose `count` elements lie from `at` on, each block with its place in the tensor.

        A block overwrites the one before.
        """
        scratch = np.empty(min(BLOCK, count), np.int64)
        left_behind = np.int64(_wrapped(int(self._magic[lane][tensor]) * MAGIC_BITS))
        for done in range(0, count, BLOCK):
            sums = self._integers[lane][at + done : at + min(done + BLOCK, count)]
            yield done, np.subtract(sums, left_behind, out=scratch[: sums.size])


def _wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
