"""How long rounds waited for each client. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmq_dashboard.columns import ABSENT, LATE, Columns, FloatColumn

OWN = ("fetch", "validate", "train", "upload")
"""The steps that a client itself takes; the rest of a task's time is queues, the network and the combiner."""


@dataclass(frozen=True, slots=True)
class TimedRound:
    """The outcomes of one attempt, and its times in UTC seconds since 1970. `committed_at` is None in an open round."""

    columns: Columns
    planned_at: float
    deadline: float
    committed_at: float | None = None

    @property
    def closed_after(self) -> float:
        """The seconds after which the round no longer waited for anybody."""
        end = self.deadline if self.committed_at is None else min(self.deadline, self.committed_at)
        return max(0.0, end - self.planned_at)

    def missed(self) -> npt.NDArray[np.bool_]:
        """Returns which clients gave no answer by the deadline. Nothing says when an absent client's task ended."""
        outcomes = self.columns.outcomes
        missed: npt.NDArray[np.bool_] = np.isnan(self.columns.at) & np.isin(outcomes, (ABSENT, LATE))
        return missed

    def ends(self) -> FloatColumn:
        """Returns the seconds from the plan until the round no longer waited for each client; NaN is not known."""
        return np.where(self.missed(), self.closed_after, (self.columns.at - self.planned_at).clip(0))

    def costs(self) -> FloatColumn:
        """Returns each client's share of the seconds that the round waited. All shares together are the last end.

        Each second is divided equally among the clients that the round still waited for.
        """
        ends = self.ends()
        costs = np.zeros(len(ends))
        known = np.flatnonzero(~np.isnan(ends))
        order = known[np.argsort(ends[known], kind="stable")]
        costs[order] = np.cumsum(np.diff(ends[order], prepend=0.0) / np.arange(len(order), 0, -1))
        return costs

    def own(self) -> FloatColumn:
        """Returns the seconds that each client itself worked; NaN where it reported no training."""
        work = sum((np.nan_to_num(self.columns.step(step)).clip(0) for step in OWN), np.zeros(len(self.columns.at)))
        return np.where(np.isnan(self.columns.step("train")), np.nan, work)

    def queued(self) -> FloatColumn:
        """Returns the seconds from the plan to the outcome in which a client did not work itself; NaN is not known."""
        return (self.ends() - self.own()).clip(0)


@dataclass(frozen=True, slots=True)
class Delay:
    """What one client cost the rounds: the seconds that they waited for it, and its missed deadlines of `asked` tasks."""

    client: str
    seconds: float
    missed: int
    asked: int


def delays(rounds: Sequence[TimedRound]) -> list[Delay]:
    """Returns the delays by all clients, the longest first."""
    seconds = _by_client(rounds, (each.costs() for each in rounds))
    missed = _by_client(rounds, (each.missed() for each in rounds))
    found = [Delay(name, sum(seconds[name]), sum(missed[name]), len(missed[name])) for name in seconds]
    return sorted(found, key=lambda delay: (-delay.seconds, delay.client))


@dataclass(frozen=True, slots=True)
class Pace:
    """A client's median seconds of its own work and of all else up to its outcome; `ratio`: its work to the others'."""

    client: str
    own: float
    queued: float
    ratio: float


def paces(rounds: Sequence[TimedRound]) -> list[Pace]:
    """Returns the paces of all clients that have reported their work, the slowest first."""
    own = _by_client(rounds, (each.own() for each in rounds))
    queued = _by_client(rounds, (each.queued() for each in rounds))
    usual = {name: float(np.nanmedian(own[name])) for name in own if not np.all(np.isnan(own[name]))}
    middle = float(np.median(list(usual.values()))) if usual else 0.0
    found = [
        Pace(name, usual[name], float(np.nanmedian(queued[name])), usual[name] / (middle or 1.0)) for name in usual
    ]
    return sorted(found, key=lambda pace: (-pace.own, pace.client))


def _by_client(rounds: Sequence[TimedRound], values: Iterable[npt.NDArray[Any]]) -> dict[str, list[Any]]:
    """Returns the values of each client, one for each round that it was in."""
    found: dict[str, list[Any]] = {}
    for each, column in zip(rounds, values, strict=True):
        for name, value in zip(each.columns.clients, column.tolist(), strict=True):
            found.setdefault(name, []).append(value)
    return found
