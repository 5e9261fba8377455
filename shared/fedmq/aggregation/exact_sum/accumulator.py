"""The exact, order-independent weighted mean.

The same updates under the same exponents give the same sum to the last bit: in any order, in any grouping into
partials, on any machine. `fixedpoint` explains why. Memory is one int64 model per lane in use (usually one), whatever
the number of updates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from fedmq.aggregation.arrangement import BLOCK
from fedmq.aggregation.exact_sum import fixedpoint
from fedmq.aggregation.exact_sum.fixedpoint import LANE_TOP, LANE_WIDTH, Integers, ceilings, lane_zero
from fedmq.aggregation.exact_sum.lanes import Lanes
from fedmq.aggregation.exact_sum.partial import INTEGERS, PartialSum
from fedmq.aggregation.exact_sum.places import Places
from fedmq.aggregation.rule import Rule
from fedmq.aggregation.verification import Contribution, Floats
from fedmq.errors import InvalidUpdate, ProtocolError
from fedmq.tensors import Spec, TensorRole
from fedmq.tensors.tensorblob import Source, Tensor, header
from fedmq_schemas.policy import DEFAULT_RULE

_FARTHEST = 2000


class Accumulator(Rule):
    """A running weighted sum of updates. Raises `ProtocolError` if an exponent is missing (`fixedpoint`)."""

    name = DEFAULT_RULE
    composes = True
    needs_every_update = False

    def __init__(self, spec: Spec, exponents: Mapping[str, int]) -> None:
        super().__init__(spec, exponents)
        self._order = self.arrangement
        self.exponents = {name: _exponent(name, spec, exponents) for name in self._order.names}
        tensors = len(self._order.names)
        self._exponents = np.array(list(self.exponents.values()), np.int64)
        self._lanes = Lanes(self._order.elements, tensors)
        self._largest = np.zeros(tensors)
        self._second = np.zeros(tensors)
        self._lowest, self._highest = lane_zero(self._exponents)
        self._expected = Places(self._exponents + LANE_TOP, self._exponents, np.ones(tensors, np.bool_))
        self._torn = False
        self._scratch = np.empty(self._order.block)
        self._buffer = np.empty(self._order.block * 8, np.uint8)

    def add(self, update: Source, weight: int, seen: Contribution) -> None:
        """Adds `weight` times the update. Raises `InvalidUpdate` before anything is added if the sum could overflow.

        If reading the update fails half way the sum is lost: every later use raises RuntimeError.
        """
        maxima = seen.maxima
        fits = (maxima <= self._highest) & ((maxima > self._lowest) | (maxima == 0))
        if np.count_nonzero(fits) == fits.size:
            places = self._expected
        else:
            places = Places(ceilings(maxima), self._exponents, maxima > 0)
        after = self._lanes.reserve(places.in_units(maxima))
        self._whole()
        self._torn = True
        self._lanes.open(after)
        for run in self._order.runs(update.layout):
            parts = [(lane, factors * float(weight)) for lane, factors in places.of(run)]
            for lane, _ in parts:
                self._lanes.count_magic(lane, run.first, run.last)
            for at, numbers in run.blocks(update, self._buffer) if parts else ():
                for lane, factors in parts:
                    self._lanes.add(lane, at, numbers, factors, self._scratch)
        self._note_maxima(maxima)
        self._torn = False

    def merge(self, partial: Source) -> None:
        """Adds a partial, all or nothing. Raises `InvalidUpdate` also if it is inconsistent, or would overflow."""
        stated = PartialSum.read(partial.meta)
        if stated.exponents != self.exponents:
            raise InvalidUpdate("the partial was summed with other exponents")
        places = stated.places(partial.tensors, self.spec)
        maxima: dict[int, Integers] = {}
        for lane, name, _ in places:
            row = maxima.setdefault(lane, np.zeros(len(self._order.names), np.int64))
            row[self._order.index[name]] = min(stated.maxima[f"{lane}/{name}"], 2**62 + 1)
        after = self._lanes.reserve(maxima)
        for lane, name, tensor in places:
            limit = stated.maxima[f"{lane}/{name}"]
            for _, sums in self._integers(partial, name, tensor):
                if sums.max() > limit or sums.min() < -limit:
                    raise InvalidUpdate(f"the partial's sum of {name!r} exceeds what it declares")
        self._whole()
        self._torn = True
        self._lanes.open(after)
        for lane, name, tensor in places:
            for at, sums in self._integers(partial, name, tensor):
                self._lanes.add_integers(lane, at, sums)
        pairs = np.array([stated.largest.get(name, [0.0, 0.0]) for name in self._order.names])
        for largest in pairs.reshape(-1, 2).T:
            self._note_maxima(largest)
        self._torn = False

    def write(self, file: BinaryIO) -> None:
        """Writes the sum as a partial blob (`partial`), block by block."""
        self._whole()
        used = {
            f"{lane}/{name}": (lane, name, total)
            for lane, totals in self._lanes.maxima.items()
            for name, total in zip(self._order.names, totals.tolist(), strict=True)
            if total
        }
        largest = zip(self._largest.tolist(), self._second.tolist(), strict=True)
        stated = PartialSum(
            count=self.count,
            weight=self.total_weight,
            exponents=self.exponents,
            maxima={key: total for key, (_, _, total) in used.items()},
            largest={name: list(pair) for name, pair in zip(self._order.names, largest, strict=True) if pair[0]},
        )
        sums = {
            key: Tensor(INTEGERS, self.spec[name].delta_shape, 0, self.spec[name].delta_size)
            for key, (_, name, _) in used.items()
        }
        head, order = header(sums, stated.meta())
        file.write(head)
        for key in order:
            lane, name, _ = used[key]
            for _, block in self._sums(lane, name):
                file.write(block.data)

    def finish(self) -> dict[str, Floats]:
        """Returns the weighted mean of the deltas, half to even for counters. Raises ValueError if nothing was added."""
        self._whole()
        if not self.count:
            raise ValueError("there is no mean: no update has been added")
        means = {}
        for index, name in enumerate(self._order.names):
            if self.spec[name].role is TensorRole.CONSTANT:
                continue
            mean = np.zeros(self.spec[name].delta_size)
            for lane in sorted(self._lanes.maxima):
                if self._lanes.maxima[lane][index]:
                    unit = math.ldexp(1.0, self.exponents[name] + LANE_WIDTH * lane)
                    for start, block in self._sums(lane, name):
                        into = mean[start : start + block.size]
                        np.add(into, np.multiply(block, unit, dtype=np.float64), out=into)
            np.divide(mean, float(self.total_weight), out=mean)
            if self.spec[name].is_whole:
                np.rint(mean, out=mean)
            means[name] = mean.reshape(self.spec[name].delta_shape)
        return means

    def next_exponents(self) -> dict[str, int]:
        """Returns the exponents that fit this round's updates."""
        previous = {name: each for name, each in self.exponents.items() if not self.spec[name].is_whole}
        return fixedpoint.exponents(self.second_largest(), previous)

    def second_largest(self) -> dict[str, float]:
        """Returns the second-largest |weight * delta| of all updates, or that of the only one, by tensor."""
        second = np.where(self._second > 0, self._second, self._largest)
        return dict(zip(self._order.names, second.tolist(), strict=True))

    def _sums(self, lane: int, name: str) -> Iterator[tuple[int, Integers]]:
        index, at = self._order.index[name], self._order.at[name]
        return self._lanes.blocks(lane, index, at, self.spec[name].delta_size)

    def _integers(self, partial: Source, name: str, tensor: Tensor) -> Iterator[tuple[int, Integers]]:
        at = self._order.at[name]
        for done in range(0, tensor.count, BLOCK):
            count = min(BLOCK, tensor.count - done)
            start = tensor.start + done * INTEGERS.itemsize
            yield at + done, partial.view(INTEGERS, start, count, self._buffer)

    def _note_maxima(self, maxima: Floats) -> None:
        np.maximum(self._second, np.minimum(self._largest, maxima), out=self._second)
        np.maximum(self._largest, maxima, out=self._largest)

    def _whole(self) -> None:
        if self._torn:
            raise RuntimeError("this sum was lost when reading an update failed half way")


def _exponent(name: str, spec: Spec, exponents: Mapping[str, int]) -> int:
    if spec[name].is_whole:
        return 0
    exponent = exponents.get(name)
    if exponent is None or abs(exponent) > _FARTHEST:
        raise ProtocolError(f"the plan's exponent for the tensor {name!r} is {exponent}")
    return exponent
