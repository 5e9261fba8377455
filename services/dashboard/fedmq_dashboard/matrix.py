"""Participation as arrays: a row for each client, a column for each round. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmq_dashboard.columns import ABSENT, CODES, LATE, Columns, FloatColumn
from fedmq_schemas.records import OUTCOMES

Counts = npt.NDArray[np.int64]
NOT_ASKED = -1
ACCEPTED = CODES["accepted"]


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

    def relative_norms(self) -> FloatColumn:
        """Returns log2 of each norm over its round's median: 1 is twice the others'."""
        median = nanmedian(self.norms, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log2(self.norms / median)
        return np.where(np.isfinite(logs), logs, np.nan)

    def order(self, by: str) -> Counts:
        """Returns the rows in the order to show: by `name`, by `norm` (the oddest first), or by `troubles`."""
        if by == "name":
            return np.arange(len(self.clients))
        oddness = np.abs(np.nan_to_num(nanmedian(self.relative_norms(), axis=1)))
        if by == "norm":
            return np.argsort(-oddness, kind="stable")
        return np.lexsort((-oddness, -self.troubles()))


def matrix_of(columns: Sequence[Columns], late: Iterable[tuple[int, str]] = ()) -> Matrix:
    """Returns the matrix. `late` has (round, client) of updates after their plan was closed, absent in the ledger."""
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
        weights[at] += np.nan_to_num(column.weights)
        transit[at, number] = column.step("transit")
        busy[at, number] = column.step("total")
    where = {column.round: number for number, column in enumerate(columns)}
    for round_number, client in late:
        if round_number in where and client in row and outcomes[row[client], where[round_number]] == ABSENT:
            outcomes[row[client], where[round_number]] = LATE
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
