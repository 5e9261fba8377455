"""Participation as arrays: a row for each client, a column for each round. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmq_dashboard.columns import CODES, Columns, FloatColumn
from fedmq_schemas.records import OUTCOMES

Counts = npt.NDArray[np.int64]
NOT_ASKED = -1
ACCEPTED = CODES["accepted"]
LEAST_SPREAD = 0.1
"""The least spread of usual norms that `norm_scores` assumes, in log2: 7 percent."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The tasks of all clients in all rounds.

    - `outcomes`: indexes into `OUTCOMES`, or NOT_ASKED. `norms`: NaN where no update was accepted.
    - `transit`: the least seconds that a client's messages seemed to take. `busy`: its median seconds on a task.
    """

    clients: tuple[str, ...]
    rounds: tuple[int, ...]
    outcomes: npt.NDArray[np.int8]
    norms: FloatColumn
    weights: FloatColumn
    transit: FloatColumn
    busy: FloatColumn

    def troubles(self) -> Counts:
        """Returns for each client the number of its tasks that were not accepted."""
        counts: Counts = np.count_nonzero((self.outcomes != ACCEPTED) & (self.outcomes != NOT_ASKED), axis=1)
        return counts

    def asked(self) -> Counts:
        """Returns for each client the number of its tasks."""
        counts: Counts = np.count_nonzero(self.outcomes != NOT_ASKED, axis=1)
        return counts

    def counts(self, client: str) -> dict[str, int]:
        """Returns how many of a client's tasks had each outcome, without those that none had."""
        if client not in self.clients:
            return {}
        row = self.outcomes[self.clients.index(client)]
        found = {outcome: int(np.count_nonzero(row == code)) for code, outcome in enumerate(OUTCOMES)}
        return {outcome: count for outcome, count in found.items() if count}

    def relative_norms(self) -> FloatColumn:
        """Returns log2 of each norm over its round's median: 1 is twice the others'."""
        median = nanmedian(self.norms, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log2(self.norms / median)
        return np.where(np.isfinite(logs), logs, np.nan)

    def order(self, by: str) -> Counts:
        """Returns the rows in the order to show: by `name`, by `norm` (the largest first), or by `troubles`."""
        if by == "name":
            return np.arange(len(self.clients))
        usual = nanmedian(self.relative_norms(), axis=1)
        smallness = np.where(np.isnan(usual), np.inf, -usual)
        if by == "norm":
            return np.argsort(smallness, kind="stable")
        return np.lexsort((smallness, -self.troubles()))

    def norm_scores(self) -> FloatColumn:
        """Returns how far each client's usual norm is from that of most clients; NaN where it is not known.

        This is the robust z-score of the median of `relative_norms`: the distance from the clients' median, over 1.4826
        times the median of all distances. A spread below `LEAST_SPREAD` counts as this, as clients with equal norms
        would make any other one infinitely odd.
        """
        usual = nanmedian(self.relative_norms(), axis=1)
        known = usual[~np.isnan(usual)]
        if not len(known):
            return usual
        middle = np.median(known)
        spread = max(1.4826 * float(np.median(np.abs(known - middle))), LEAST_SPREAD)
        scores: FloatColumn = (usual - middle) / spread
        return scores


def matrix_of(columns: Sequence[Columns]) -> Matrix:
    """Returns the matrix of these rounds."""
    clients = tuple(sorted({name for column in columns for name in column.clients}))
    row = {name: index for index, name in enumerate(clients)}
    shape = (len(clients), len(columns))
    outcomes = np.full(shape, NOT_ASKED, np.int8)
    norms, transit, busy = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    weights = np.zeros(len(clients))
    for number, column in enumerate(columns):
        at = np.fromiter((row[name] for name in column.clients), np.intp, len(column.clients))
        outcomes[at, number] = column.outcomes
        norms[at, number] = column.norms
        weights[at] += np.where(column.outcomes == ACCEPTED, np.nan_to_num(column.weights), 0.0)
        transit[at, number] = column.step("transit")
        busy[at, number] = column.step("total")
    rounds = tuple(column.round for column in columns)
    least = np.min(np.where(np.isnan(transit), np.inf, transit), axis=1, initial=np.inf)
    return Matrix(clients, rounds, outcomes, norms, weights, least, nanmedian(busy, axis=1))


def nanmedian(values: FloatColumn, axis: int) -> FloatColumn:
    """Returns the median of the known values; NaN, without a warning, where there are none."""
    known = ~np.isnan(values)
    ordered = np.sort(values, axis=axis)  # NaN goes last
    count = known.sum(axis=axis, keepdims=True)
    if values.shape[axis] == 0:
        return np.full(count.squeeze(axis).shape, np.nan)
    low = np.take_along_axis(ordered, np.maximum(0, (count - 1) // 2), axis)
    high = np.take_along_axis(ordered, np.minimum(np.maximum(0, count // 2), values.shape[axis] - 1), axis)
    middle: FloatColumn = np.where(count > 0, (low + high) / 2, np.nan).squeeze(axis)
    return middle


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task whose outcome was not `accepted`."""

    round: int
    outcome: str
    reason: str


def last_troubles(columns: Iterable[Columns]) -> dict[str, Trouble]:
    """Returns each client's newest trouble. `columns` are in the order of their rounds."""
    newest: dict[str, Trouble] = {}
    for column in columns:
        for index in np.flatnonzero(column.outcomes != ACCEPTED):
            name, outcome = column.clients[index], OUTCOMES[column.outcomes[index]]
            newest[name] = Trouble(column.round, outcome, column.reasons.get(name, ""))
    return newest
