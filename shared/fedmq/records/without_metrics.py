"""Why validations of a session have no metrics, from its records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmq.evaluators import NO_TEST_SET, NO_VALIDATE
from fedmq.reasons import OUTPUT_HEADING, alike
from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables

MOST_VALIDATIONS = 10_000
MOST_SHOWN = 3
_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (.+)$', re.MULTILINE)
_PLACE = re.compile(r"^\S+:\d+ in \S+$", re.MULTILINE)


def without_metrics(records: Records, session: str) -> Document:
    """Returns how many validations a session has, `asked`, and in `reasons` why some of them have no metrics.

    Each row has a `reason`, the `place` in the trainer's code that raised it (or ""), the `count` of validations whose
    reasons differ in numbers only, their `clients`, and the newest `round` whose model has no such metrics. The most
    frequent reason is first. Validations that were not answered in time count too. A client whose trainer has no `validate`
    counts once, as it does not report each model. Left out are evaluators without a test set.
    Of a long session, the newest 10,000 validations count.
    """
    where = {"session": session}
    found = records.find(tables.VALIDATIONS, where, order="at", descending=True, limit=MOST_VALIDATIONS)
    answered = {(row["round"], row["client"]) for row in found}
    events = records.find(
        tables.EVENTS,
        where | {"name": "validation.absent"},
        order="at",
        descending=True,
        limit=MOST_VALIDATIONS,
    )
    absent = [
        {**event, "metrics": {}, "reason": f"absent: {event['data']['reason']}"}
        for event in events
        if (event["round"], event["client"]) not in answered
    ]
    rows = _once_each([row for row in (*found, *absent) if not _is_untested(row)])
    return {"asked": len(rows), "reasons": _reasons(records, rows)}


def reasons_by_client(records: Records, session: str, number: int) -> dict[str, str]:
    """Returns the clients whose newest validation of model `number`, or of the one before, has no metrics, with why."""
    where = {"session": session, "round": [number - 1, number]}
    newest = {row["client"]: row for row in records.find(tables.VALIDATIONS, where, order="at")}
    places: dict[tuple[str, str], str] = {}
    found = {}
    for client, row in newest.items():
        if not row["metrics"] and row.get("reason"):
            key = alike("", row["reason"])
            if key not in places:
                places[key] = _place(records, row)
            found[client] = f"validation of model {row['round']} has no metrics: {_text(row['reason'], places[key])}"
    return found


def without_metrics_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns a line for each of the three most frequent reasons: `3 of 9 validations have no metrics: …`."""
    rows: Sequence[Mapping[str, Any]] = found["reasons"]
    lines = []
    for row in rows[:MOST_SHOWN]:
        first, *more = row["clients"]
        who = f"{first} and {len(more)} more" if more else first
        have = "has" if found["asked"] == 1 else "have"
        noun = "validation" if found["asked"] == 1 else "validations"
        text = _text(row["reason"], row["place"])
        lines.append(f"{row['count']} of {found['asked']} {noun} {have} no metrics: {text} ({who})")
    if len(rows) > MOST_SHOWN:
        lines.append(f"{sum(row['count'] for row in rows[MOST_SHOWN:])} more have none for other reasons")
    return lines


def _is_untested(row: Mapping[str, Any]) -> bool:
    return row.get("scope") == "test" and str(row.get("reason", "")).startswith(NO_TEST_SET)


def _once_each(rows: Sequence[Document]) -> list[Document]:
    """Returns the rows, but of a client whose trainer has no `validate` the first one only."""
    firsts = {row["client"]: row for row in reversed(rows) if row.get("reason") == NO_VALIDATE}
    return [row for row in rows if row.get("reason") != NO_VALIDATE or row is firsts[row["client"]]]


def _reasons(records: Records, rows: Iterable[Mapping[str, Any]]) -> list[Document]:
    found: dict[tuple[str, str], Document] = {}
    clients: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row["metrics"] or not row.get("reason"):
            continue
        key = alike("", row["reason"])
        if key not in found:
            place = _place(records, row)
            found[key] = {"reason": row["reason"], "place": place, "count": 0, "clients": [], "round": row["round"]}
        found[key]["count"] += 1
        clients.setdefault(key, set()).add(row["client"])
    for key, names in clients.items():
        found[key]["clients"] = sorted(names)
    return sorted(found.values(), key=lambda each: -each["count"])


def _text(reason: str, place: str) -> str:
    return f"{reason}; it was in {place}" if place and place not in reason else reason


def _place(records: Records, row: Mapping[str, Any]) -> str:
    """Returns the place in the trainer's code, from the traceback of the validation's event; "" once that is deleted."""
    if "model" not in row:
        return ""  # the reason of an absent client has the place
    event = records.get(tables.EVENTS, keys.validated_event(row["session"], row["model"], row["client"]))
    return place_in(str(event["data"].get("traceback", ""))) if event is not None else ""


def place_in(traceback: str) -> str:
    """Returns the innermost place of a traceback in the folder of its first frame: `trainer.py:18 in validate`, or "".

    Reads both what a site publishes in full and what it publishes of frames alone.
    """
    trace = traceback.partition(OUTPUT_HEADING)[0]
    frames = _FRAME.findall(trace)
    if not frames:
        places = _PLACE.findall(trace)
        return places[-1] if places else ""
    folder = os.path.dirname(frames[0][0])
    path, line, function = [each for each in frames if os.path.dirname(each[0]) == folder][-1]
    return f"{os.path.basename(path)}:{line} in {function}"
