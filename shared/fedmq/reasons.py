"""Reasons of many clients, of which those that are alike are stated once, with their number. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedmq_schemas.limits import LONGEST_NOTE, safe
from fedmq_schemas.messages import OutcomeReason

OUTPUT_HEADING = "--- last lines of output ---"
"""Separates the traceback of a failed task from what its trainer printed."""
CRASH_HEADING = "Fatal Python error: "
"""Begins the line of Python's faulthandler that names a crash in C code."""
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
_PASSIVE = ("absent", "rejected", "discarded")


def alike(outcome: str, reason: str) -> tuple[str, str]:
    """Returns a key that is equal for reasons of one outcome that differ in numbers only."""
    return outcome, _NUMBER.sub("0", reason)


def count_alike(found: Iterable[OutcomeReason]) -> list[OutcomeReason]:
    """Returns one of all reasons that are alike, the first one, with the sum of their counts; the most frequent first."""
    first: dict[tuple[str, str], OutcomeReason] = {}
    for each in found:
        key = alike(each.outcome, each.reason)
        count = each.count + (first[key].count if key in first else 0)
        first[key] = first.get(key, each).model_copy(update={"count": count})
    return sorted(first.values(), key=lambda each: -each.count)


def shortened(reason: str, most: int = LONGEST_NOTE) -> str:
    """Returns the reason as one line of at most `most` characters."""
    line = safe(" ".join(reason.split()))
    return line if len(line) <= most else f"{line[: most - 2]} …"


def unanswered(seconds: float, place: str) -> str:
    """Returns that there was no answer in `seconds`, with the `place` where the trainer was, if that is not ""."""
    return f"no answer in {seconds:g} s" + (f"; it was in {place}" if place else "")


def absence(seconds: float, place: str, setting: str) -> str:
    """Returns why a client is absent at a deadline, and the remedy.

    `seconds`: the time that the client had. `place`: where its trainer was, or "". `setting`: the policy's key of the time.
    """
    return f"{unanswered(seconds, place)}; if trainers are only slow, raise `{setting}`"


def fared(outcome: str, count: int) -> str:
    """Returns the outcome of `count` clients as a verb: `failed`, `abstained`, `were absent`."""
    return f"{'was' if count == 1 else 'were'} {outcome}" if outcome in _PASSIVE else outcome
