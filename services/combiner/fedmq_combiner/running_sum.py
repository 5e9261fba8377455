"""The running sum of a plan, and the division of updates into batches that are added to it at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedmq.aggregation import Accumulator, Contribution, Stack
from fedmq.errors import FedMQError, InvalidUpdate
from fedmq.tensors.tensorblob import Source
from fedmq_combiner.operations import SMALL, Fold, Folded
from fedmq_schemas.messages import Plan


@dataclass(slots=True)
class RunningSum:
    """The running sum of a plan. `most_bytes`: no valid update is larger."""

    plan: Plan
    accumulator: Accumulator
    most_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fold(self, updates: Sequence[Source], weights: Sequence[int]) -> list[Folded | FedMQError]:
        """Adds updates, and returns what became of each. Several updates must have one layout and be in memory."""
        stack = Stack(updates)
        try:
            found = [self._allowed(seen) for seen in self.accumulator.verify_all(stack, weights)]
        except InvalidUpdate as error:
            return [error] * len(updates)
        contributions = [seen for seen in found if isinstance(seen, Contribution)]
        if len(contributions) == len(updates):
            try:
                if self.accumulator.fold_all(stack, weights, contributions):
                    return [Folded(seen.norm) for seen in contributions]
            except InvalidUpdate as error:
                if len(updates) == 1:
                    return [error]
        return [self._fold_one(*each) for each in zip(updates, weights, found, strict=True)]

    def _fold_one(self, update: Source, weight: int, seen: Contribution | InvalidUpdate) -> Folded | FedMQError:
        if isinstance(seen, InvalidUpdate):
            return seen
        try:
            self.accumulator.fold(update, weight, seen)
        except InvalidUpdate as error:
            return error
        return Folded(seen.norm)

    def _allowed(self, seen: Contribution | InvalidUpdate) -> Contribution | InvalidUpdate:
        longest = self.plan.max_norm
        if longest is None or isinstance(seen, InvalidUpdate) or seen.norm <= longest:
            return seen
        return InvalidUpdate(f"its norm is {seen.norm:.6g}, and the policy allows {longest:g}")


def batches(folds: Sequence[Fold]) -> Iterator[Sequence[Fold]]:
    """Yields runs of neighbouring folds that may be performed together: those of one incarnation of a plan whose updates are
    less than 1 MB in sum. A larger update is a batch of its own."""
    start = size = 0
    for at, fold in enumerate(folds):
        first = folds[start]
        size += fold.blob.size
        if at > start and (size > SMALL or (fold.plan, fold.incarnation) != (first.plan, first.incarnation)):
            yield folds[start:at]
            start, size = at, fold.blob.size
    yield folds[start:]
