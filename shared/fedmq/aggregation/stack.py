"""Updates that are read side by side, as the rows of a matrix: numpy's overhead per call is theirs together.

Small updates of one model have one layout, and wait for each other anyway where many clients answer at once. A large
update is a stack of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmq.aggregation.arrangement import BLOCK, Span
from fedmq.tensors.tensorblob import Array, Source

MOST_BYTES = 262_144
"""Of a stack of several, so that its numbers stay in the processor's cache."""


class Stack:
    """Updates of one layout: several in memory, or any one. Their bytes must not change while the stack is used."""

    def __init__(self, updates: Sequence[Source]) -> None:
        self.layout = updates[0].layout
        self.count = len(updates)
        self._first = updates[0]
        self._rows: NDArray[np.uint8] | None = None
        if self.count > 1:
            joined = b"".join([update.memory for update in updates if update.memory is not None])
            self._rows = np.frombuffer(joined, np.uint8).reshape(self.count, self.layout.size)

    def blocks(self, run: Span, buffer: NDArray[np.uint8]) -> Iterator[tuple[int, Array]]:
        """The elements of a run, shape (updates, elements), with the place of their first column in the sum; at most
        `BLOCK` columns at a time. A block overwrites the one before if the update is a file."""
        size = run.dtype.itemsize
        for done in range(0, run.count, BLOCK):
            count = min(BLOCK, run.count - done)
            start = run.start + done * size
            if self._rows is None:
                yield run.at + done, self._first.view(run.dtype, start, count, buffer)[np.newaxis]
            else:
                yield run.at + done, self._rows[:, start : start + count * size].view(run.dtype)


def stacks(updates: Sequence[Source]) -> Iterator[slice]:
    """Which updates that follow each other to stack."""
    start = 0
    for at, update in enumerate(updates):
        first = updates[start]
        is_alike = update.layout is first.layout and None not in (update.memory, first.memory)
        if at > start and (not is_alike or (at - start + 1) * update.layout.size > MOST_BYTES):
            yield slice(start, at)
            start = at
    if updates:
        yield slice(start, len(updates))
