"""The exact, order-independent weighted sum of updates.

The same updates under the same exponents give the same sum to the last bit: in any order, in any
grouping into partials, on any machine. `fixedpoint` says why. An update is taken in two passes:
`verify` reads it once and changes nothing, so that a bad one is refused whole; `fold` adds it.
Memory is one int64 model per lane in use (usually one), whatever the number of updates.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from fedmq.aggregation.arrangement import BLOCK, Arrangement
from fedmq.aggregation.fixedpoint import LANE_TOP, LANE_WIDTH, Floats, Integers, ceilings, lane_zero
from fedmq.aggregation.lanes import Lanes
from fedmq.aggregation.partial import INTEGERS, PartialSum
from fedmq.aggregation.places import Places
from fedmq.aggregation.stack import Stack
from fedmq.errors import InvalidUpdate, ProtocolError
from fedmq.tensors import MAX_COUNTER_DELTA, Spec, TensorRole, TensorSpec
from fedmq.tensors.tensorblob import Source, Tensor, header

MAX_WEIGHT = 2**53
LARGEST_FLOAT = 1e145
"""Of a larger delta the square, or the sum of squares, could overflow."""
_FARTHEST = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """What `verify` found out about an update.

    `norm`: L2 norm of the (unweighted) delta over all tensors, by IEEE operations in fixed order.
    `maxima`: the largest |weight * delta| of each tensor, in the accumulator's order.
    """

    norm: float
    maxima: Floats


class Accumulator:
    """A running weighted sum of updates to a model of the given spec.

    `exponents` has one integer for each tensor that is no counter (`fixedpoint`); `ProtocolError`
    names one that is missing. One thread at a time may use an accumulator.
    """

    def __init__(self, spec: Spec, exponents: Mapping[str, int]) -> None:
        self.spec = spec
        self.total_weight = 0
        self.count = 0
        """Number of updates in the sum."""
        self._order = Arrangement(spec)
        self.exponents = {name: _exponent(name, spec, exponents) for name in self._order.names}
        tensors = [spec[name] for name in self._order.names]
        self._exponents = np.array(list(self.exponents.values()), np.int64)
        self._limits = np.array([_limit(tensor) for tensor in tensors])
        self._lanes = Lanes(self._order.elements, len(tensors))
        self._largest = np.zeros(len(tensors))
        self._second = np.zeros(len(tensors))
        self._lowest, self._highest = lane_zero(self._exponents)
        self._expected = Places(self._exponents + LANE_TOP, self._exponents, np.ones(len(tensors), np.bool_))
        self._torn = False
        block = min(BLOCK, self._order.elements)
        self._scratch = np.empty(block)
        self._squares = np.empty(block)
        self._buffer = np.empty(block * 8, np.uint8)

    def verify(self, update: Source, weight: int) -> Contribution:
        """Read the update once and say what it would add. Changes nothing.

        Raises `InvalidUpdate` for other names, shapes or dtypes than the spec's, for NaN, infinity
        or a number beyond 10^145, for a changed constant, for an integer delta of 2^53 or more, and
        for a weight that is not an integer from 1 to 2^53 - 1. Numbers below 10^-154 count as zero.
        """
        [found] = self.verify_all(Stack([update]), [weight])
        if isinstance(found, InvalidUpdate):
            raise found
        return found

    def verify_all(self, updates: Stack, weights: Sequence[int]) -> list[Contribution | InvalidUpdate]:
        """What `verify` says, or raises, of each. Raises `InvalidUpdate` where their layout is not the spec's."""
        runs = self._order.runs(updates.layout)
        widest = max((min(run.count, BLOCK) for run in runs), default=0)
        self._make_room(updates.count * widest)
        sums = self._squares[: updates.count * widest].reshape(updates.count, widest)
        sums.fill(0)
        largest = np.zeros((updates.count, len(self._order.names)))
        with np.errstate(all="ignore"):
            for run in runs:
                known = largest[:, run.first : run.last]
                for _, values in updates.blocks(run, self._buffer):
                    squares = self._scratch[: values.size].reshape(values.shape)
                    np.copyto(squares, values)
                    np.multiply(squares, squares, out=squares)
                    part = sums[:, : values.shape[1]]
                    np.add(part, squares, out=part)
                    np.maximum(known, np.maximum.reduceat(squares, run.offsets, axis=1), out=known)
        # The root of a rounded square is the very number that was squared.
        np.sqrt(largest, out=largest)
        # NaN fails every comparison.
        fine = largest <= self._limits
        are_fine = np.count_nonzero(fine) == fine.size
        found: list[Contribution | InvalidUpdate] = []
        for row, (total, weight) in enumerate(zip(_totals(sums), weights, strict=True)):
            if type(weight) is not int or not 1 <= weight < MAX_WEIGHT:
                found.append(InvalidUpdate(f"the weight is {weight!r} and not an integer from 1 to 2^53 - 1"))
            elif are_fine or fine[row].all():
                found.append(Contribution(math.sqrt(total), largest[row] * weight))
            else:
                found.append(self._fault(largest[row], int(np.argmin(fine[row]))))
        return found

    def fold(self, update: Source, weight: int, contribution: Contribution) -> None:
        """Add `weight` times the update, which `verify` passed with this weight and contribution.

        All or nothing: raises `InvalidUpdate` before anything is added if the sum could overflow.
        Not idempotent. If reading the update fails half way the sum is lost: every later use raises
        RuntimeError.
        """
        self.fold_all(Stack([update]), [weight], [contribution])

    def fold_all(self, updates: Stack, weights: Sequence[int], contributions: Sequence[Contribution]) -> bool:
        """`fold` for each, and for all or none. False where they go into several lanes: they are to be folded one by one.
        A single one never does."""
        maxima = np.array([contribution.maxima for contribution in contributions])
        if ((maxima <= self._highest) & ((maxima > self._lowest) | (maxima == 0))).all():
            places = self._expected
        elif updates.count == 1:
            places = Places(ceilings(maxima[0]), self._exponents, maxima[0] > 0)
        else:
            return False
        runs = self._order.runs(updates.layout)
        after = self._lanes.reserve(places.in_units(maxima))
        factors = np.array(weights, np.float64)[:, np.newaxis]
        self._make_room(updates.count * max((min(run.count, BLOCK) for run in runs), default=0))
        with self._changing():
            self._lanes.open(after)
            for run in runs:
                parts = places.of(run)
                for lane, _ in parts:
                    self._lanes.count_magic(lane, run.first, run.last, updates.count)
                for at, values in updates.blocks(run, self._buffer) if parts else ():
                    for lane, factor in parts:
                        self._lanes.add(lane, at, values, factor * factors, self._scratch)
            self._note_maxima(maxima)
            self.total_weight += sum(weights)
            self.count += updates.count
        return True

    def add(self, update: Source, weight: int) -> Contribution:
        """`verify`, then `fold`."""
        contribution = self.verify(update, weight)
        self.fold(update, weight, contribution)
        return contribution

    def merge(self, partial: Source) -> None:
        """Add a partial that another accumulator with the same spec and exponents has written.

        All or nothing, as `fold`; not idempotent. Raises `InvalidUpdate` if the blob is no partial,
        belongs to another spec or exponents, contradicts itself, or if the sum could overflow.
        """
        said = PartialSum.read(partial.meta)
        if said.exponents != self.exponents:
            raise InvalidUpdate("the partial was summed with other exponents")
        places = said.places(partial.tensors, self.spec)
        maxima: dict[int, Integers] = {}
        for lane, name, _ in places:
            row = maxima.setdefault(lane, np.zeros(len(self._order.names), np.int64))
            row[self._order.index[name]] = min(said.maxima[f"{lane}/{name}"], 2**62 + 1)
        after = self._lanes.reserve(maxima)
        for lane, name, tensor in places:
            limit = said.maxima[f"{lane}/{name}"]
            for _, values in self._integers(partial, name, tensor):
                if values.max() > limit or values.min() < -limit:
                    raise InvalidUpdate(f"the partial's sum of {name!r} exceeds what it declares")
        with self._changing():
            self._lanes.open(after)
            for lane, name, tensor in places:
                for at, values in self._integers(partial, name, tensor):
                    self._lanes.add_integers(lane, at, values)
            pairs = np.array([said.largest.get(name, [0.0, 0.0]) for name in self._order.names])
            self._note_maxima(pairs.reshape(-1, 2).T)
            self.total_weight += said.weight
            self.count += said.count

    @classmethod
    def load(cls, spec: Spec, partial: Source) -> Accumulator:
        """An accumulator that continues from a partial: the spec is the model's, the exponents are
        the partial's. Raises as `merge` does."""
        accumulator = cls(spec, PartialSum.read(partial.meta).exponents)
        accumulator.merge(partial)
        return accumulator

    def write(self, file: BinaryIO) -> None:
        """Write the sum as a partial blob (`partial`), block by block.

        The same updates give the same bytes. The accumulator can be used further.
        """
        self._whole()
        used = {
            f"{lane}/{name}": (lane, name, total)
            for lane, totals in self._lanes.maxima.items()
            for name, total in zip(self._order.names, totals.tolist(), strict=True)
            if total
        }
        largest = zip(self._largest.tolist(), self._second.tolist(), strict=True)
        said = PartialSum(
            count=self.count,
            weight=self.total_weight,
            exponents=self.exponents,
            maxima={key: total for key, (_, _, total) in used.items()},
            largest={name: list(pair) for name, pair in zip(self._order.names, largest, strict=True) if pair[0]},
        )
        sums = {
            key: Tensor(INTEGERS, self.spec[name].shape, 0, self.spec[name].size) for key, (_, name, _) in used.items()
        }
        head, order = header(sums, said.meta())
        file.write(head)
        for key in order:
            lane, name, _ = used[key]
            for _, block in self._sums(lane, name):
                file.write(block.data)

    def dump(self) -> bytes:
        """The partial blob that `write` writes."""
        file = io.BytesIO()
        self.write(file)
        return file.getvalue()

    def mean(self) -> dict[str, Floats]:
        """The weighted mean of the deltas, float64 in the model's shapes, by name.

        Counters are rounded half to even. Constants are left out: they never change. Raises
        ValueError if nothing has been added.
        """
        self._whole()
        if not self.count:
            raise ValueError("there is no mean: no update has been added")
        means = {}
        for index, name in enumerate(self._order.names):
            if self.spec[name].role is TensorRole.CONSTANT:
                continue
            mean = np.zeros(self.spec[name].size)
            for lane in sorted(self._lanes.maxima):
                if self._lanes.maxima[lane][index]:
                    unit = math.ldexp(1.0, self.exponents[name] + LANE_WIDTH * lane)
                    for start, block in self._sums(lane, name):
                        into = mean[start : start + block.size]
                        np.add(into, np.multiply(block, unit, dtype=np.float64), out=into)
            np.divide(mean, float(self.total_weight), out=mean)
            if self.spec[name].role is TensorRole.COUNTER:
                np.rint(mean, out=mean)
            means[name] = mean.reshape(self.spec[name].shape)
        return means

    def second_largest(self) -> dict[str, float]:
        """By tensor, the second-largest |weight * delta| among all updates (of one update, its
        own): what `fixedpoint.exponents` asks for. 0 where nothing changed."""
        second = np.where(self._second > 0, self._second, self._largest)
        return dict(zip(self._order.names, second.tolist(), strict=True))

    def _sums(self, lane: int, name: str) -> Iterator[tuple[int, Integers]]:
        index, at = self._order.index[name], self._order.at[name]
        return self._lanes.blocks(lane, index, at, self.spec[name].size)

    def _integers(self, partial: Source, name: str, tensor: Tensor) -> Iterator[tuple[int, Integers]]:
        at = self._order.at[name]
        for done in range(0, tensor.count, BLOCK):
            count = min(BLOCK, tensor.count - done)
            place_of = tensor.start + done * INTEGERS.itemsize
            yield at + done, partial.view(INTEGERS, place_of, count, self._buffer)

    def _note_maxima(self, maxima: Floats) -> None:
        """`maxima`: a row for each update."""
        if len(maxima) == 1:
            np.maximum(self._second, np.minimum(self._largest, maxima[0]), out=self._second)
            np.maximum(self._largest, maxima[0], out=self._largest)
        else:
            self._second, self._largest = np.sort([self._second, self._largest, *maxima], axis=0)[-2:]

    def _make_room(self, elements: int) -> None:
        if self._scratch.size < elements:
            self._scratch, self._squares = np.empty(elements), np.empty(elements)

    def _fault(self, largest: Floats, first: int) -> InvalidUpdate:
        name, value, limit = self._order.names[first], largest[first], self._limits[first]
        if math.isnan(value):
            return InvalidUpdate(f"tensor {name!r} holds NaN")
        if math.isinf(value):
            return InvalidUpdate(f"tensor {name!r} holds infinity")
        if limit == 0:
            return InvalidUpdate(f"tensor {name!r} is constant and the update changes it")
        return InvalidUpdate(f"tensor {name!r} holds {value:.3g}; at most {limit:.3g} is summed")

    def _whole(self) -> None:
        if self._torn:
            raise RuntimeError("this sum was lost when reading an update failed half way")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._whole()
        self._torn = True
        yield
        self._torn = False


def _exponent(name: str, spec: Spec, exponents: Mapping[str, int]) -> int:
    if spec[name].role is TensorRole.COUNTER:
        return 0
    exponent = exponents.get(name)
    if exponent is None or abs(exponent) > _FARTHEST:
        raise ProtocolError(f"the plan's exponent for the tensor {name!r} is {exponent}")
    return exponent


def _limit(tensor: TensorSpec) -> float:
    """The largest |delta| that an update may hold."""
    if tensor.role is TensorRole.CONSTANT:
        return 0.0
    return MAX_COUNTER_DELTA - 1 if tensor.role is TensorRole.COUNTER else LARGEST_FLOAT


def _totals(values: Floats) -> list[float]:
    """The sum of each row, by halves and at last one by one: numpy's own order of additions is not promised."""
    while (width := values.shape[1]) > 1024:
        half = (width + 1) // 2
        halves = np.empty((len(values), half))
        np.add(values[:, : width - half], values[:, half:], out=halves[:, : width - half])
        halves[:, width - half :] = values[:, width - half : half]
        values = halves
    totals: list[float] = np.add.accumulate(values, axis=1)[:, -1].tolist() if values.size else [0.0] * len(values)
    return totals
