"""The outcomes of an attempt as arrays, small enough to keep thousands of rounds of a thousand clients. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmq_schemas.records import OUTCOMES

FloatColumn = npt.NDArray[np.float64]
CODES: dict[str, int] = {outcome: code for code, outcome in enumerate(OUTCOMES)}
LATE = CODES["discarded"]
ABSENT = CODES["absent"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The outcomes of the tasks of one round. Row i of each column is about `clients[i]`; NaN is not known.

    `outcomes` are indexes into `OUTCOMES`. `at` is the time of the outcome in UTC seconds since 1970. `seconds` has a
    column for each step of a task.
    """

    session: str
    round: int
    attempt: int
    clients: tuple[str, ...]
    outcomes: npt.NDArray[np.int8]
    weights: FloatColumn
    norms: FloatColumn
    at: FloatColumn
    seconds: Mapping[str, FloatColumn]
    reasons: Mapping[str, str]

    def step(self, name: str) -> FloatColumn:
        """Returns the seconds of a step; NaN where they are not known."""
        found = self.seconds.get(name)
        return np.full(len(self.clients), np.nan) if found is None else found


def columns_of(document: Mapping[str, Any]) -> Columns:
    """Returns the columns of a document of the table `participation`."""
    return Columns(
        session=document["session"],
        round=document["round"],
        attempt=document["attempt"],
        clients=tuple(sys.intern(name) for name in document["clients"]),
        outcomes=np.array([CODES[outcome] for outcome in document["outcomes"]], np.int8),
        weights=_floats(document["weights"]),
        norms=_floats(document["norms"]),
        at=_floats(document["at"]),
        seconds={step: _floats(values) for step, values in document["seconds"].items()},
        reasons=document["reasons"],
    )


def columns_of_events(session: str, round_number: int, attempt: int, events: Iterable[Mapping[str, Any]]) -> Columns:
    """Returns the columns of an attempt that is not aggregated yet, from its `update.*` events. The first outcome counts."""
    answers: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if (
            event["name"].startswith("update.")
            and event["round"] == round_number
            and event["name"] != "update.discarded"
        ):
            answers.setdefault(event["client"], event)
    judged = [answers[name] for name in sorted(answers)]
    steps = sorted({step for event in judged for step in event["data"].get("seconds", {})})
    return columns_of(
        {
            "session": session,
            "round": round_number,
            "attempt": attempt,
            "clients": [event["client"] for event in judged],
            "outcomes": [event["name"].partition(".")[2] for event in judged],
            "weights": [event["data"].get("weight", 0) for event in judged],
            "norms": [event["data"].get("norm") for event in judged],
            "at": [None if event["name"] == "update.absent" else event["at"] for event in judged],
            "seconds": {step: [event["data"].get("seconds", {}).get(step) for event in judged] for step in steps},
            "reasons": {event["client"]: event["data"]["reason"] for event in judged if event["data"].get("reason")},
        }
    )


def with_late(columns: Sequence[Columns], late: Iterable[tuple[int, str]]) -> list[Columns]:
    """Returns the columns with the outcome late for the (round, client) of late updates, which their ledger calls absent."""
    by_round: dict[int, set[str]] = {}
    for number, client in late:
        by_round.setdefault(number, set()).add(client)
    return [_with_late(each, by_round[each.round]) if each.round in by_round else each for each in columns]


def _with_late(columns: Columns, late: set[str]) -> Columns:
    is_late = np.array([client in late for client in columns.clients], np.bool_) & (columns.outcomes == ABSENT)
    return replace(columns, outcomes=np.where(is_late, LATE, columns.outcomes).astype(np.int8))


def _floats(values: Any) -> FloatColumn:
    return np.array([np.nan if value is None else value for value in values], np.float64)
