"""The place of each tensor in a sum, and the pieces in which an update is read.

A sum is one flat array over all tensors, in the order of an update blob of ours. An update is read in *runs*: a large
tensor is one, read block by block. Small tensors that lie side by side are read together, as numpy's overhead per call
exceeds their arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.tensors import Spec, TensorRole, check
from fedmq.tensors.tensorblob import Array, Layout, Source, Tensor, in_order

BLOCK = 262_144
"""Elements processed at a time: large enough for numpy's overhead, small enough for the cache."""

_SMALL = 4096


@dataclass(frozen=True, slots=True)
class Span:
    """The tensors `first` to `last` (exclusive), as they lie in an update and in a sum.

    They are `count` elements from byte `start` of the blob and from element `at` of the sum on; `counts` and `offsets` are
    those of each tensor. `trained`: whether they count in a norm, as 1 or 0 for each element where that differs.
    """

    dtype: np.dtype[Any]
    start: int
    at: int
    count: int
    first: int
    last: int
    offsets: NDArray[np.intp]
    counts: NDArray[np.intp]
    trained: bool | NDArray[np.float64]

    def blocks(self, update: Source, buffer: NDArray[np.uint8]) -> Iterator[tuple[int, Array]]:
        """Yields blocks of an update with their places in the sum. A block of a file overwrites the one before."""
        for done in range(0, self.count, BLOCK):
            start = self.start + done * self.dtype.itemsize
            yield self.at + done, update.view(self.dtype, start, min(BLOCK, self.count - done), buffer)


class Arrangement:
    """The order of the tensors of a spec in a sum.

    `names`: in that order; `at`: the first element of each; `index`: its position in `names`; `elements`: of all
    tensors together; `block`: the most elements of a block;
    `widest`: those of the largest block of the update whose runs were last returned.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.names = in_order({name: tensor.delta_dtype for name, tensor in spec.items()})
        self.index = {name: index for index, name in enumerate(self.names)}
        *starts, self.elements = accumulate((spec[name].delta_size for name in self.names), initial=0)
        self.block = min(BLOCK, self.elements)
        self.at = dict(zip(self.names, starts, strict=True))
        self.widest = 0
        self._layout: Layout | None = None
        self._runs: tuple[Span, ...] = ()

    def runs(self, layout: Layout) -> tuple[Span, ...]:
        """Returns the runs of an update, whose header is checked against the spec (`tensors.check`).

        The last ones are kept: the updates of a session have one header, and one layout.
        """
        if layout is not self._layout:
            check(layout.tensors, self.spec)
            self._runs = tuple(self._run(group) for group in self._groups(layout))
            self._layout = layout
            self.widest = max((min(run.count, BLOCK) for run in self._runs), default=0)
        return self._runs

    def _groups(self, layout: Layout) -> Iterator[list[tuple[int, Tensor]]]:
        group: list[tuple[int, Tensor]] = []
        elements = 0
        for name, tensor in layout.tensors.items():
            if not tensor.count:
                continue
            if group and not (
                self.index[name] == group[-1][0] + 1
                and tensor.dtype == group[0][1].dtype
                and max(tensor.count, group[0][1].count) < _SMALL
                and elements + tensor.count <= BLOCK
            ):
                yield group
                group, elements = [], 0
            group.append((self.index[name], tensor))
            elements += tensor.count
        if group:
            yield group

    def _run(self, group: list[tuple[int, Tensor]]) -> Span:
        first, tensor = group[0]
        counts = np.array([member.count for _, member in group], np.intp)
        trained = [self.spec[self.names[index]].role is TensorRole.TRAINABLE for index, _ in group]
        return Span(
            dtype=tensor.dtype,
            start=tensor.start,
            at=self.at[self.names[first]],
            count=int(counts.sum()),
            first=first,
            last=first + len(group),
            offsets=np.cumsum(counts) - counts,
            counts=counts,
            trained=trained[0] if len(set(trained)) == 1 else np.repeat(np.array(trained, np.float64), counts),
        )
