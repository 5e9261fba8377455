"""Why updates of a session were not accepted, and why validations have no metrics, from its records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fedmq.evaluators import NO_TEST_SET, NO_VALIDATE
from fedmq.reasons import OUTPUT_HEADING, alike, fared
from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables

MOST_VALIDATIONS = 10_000
MOST_TASKS = 10_000
MOST_ROUNDS = 1_000
MOST_SHOWN = 3
MOST_PLACES = 10
"""Number of reasons, most frequent first, of which the place in the trainer's code is looked up."""
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
    lacking = ((row, "") for row in rows if not row["metrics"] and row.get("reason"))
    return {"asked": len(rows), "reasons": _reasons(lacking, lambda row, _: _place(records, row))}


def not_accepted(records: Records, session: str) -> Document:
    """Returns how many updates the committed rounds of a session asked for, `asked`, and why some were not accepted.

    Each row of `reasons` has what `without_metrics` returns of one, and the `outcome` of these updates. Of a long session,
    the newest rounds count: up to 1,000 of them, until they have asked for 10,000 updates.
    """
    rounds, asked = [], 0
    newest = records.find(tables.ROUNDS, {"session": session}, order="round", descending=True, limit=MOST_ROUNDS)
    for each in newest:
        if asked >= MOST_TASKS:
            break
        asked += sum(each["counts"].values())
        if sum(each["counts"].values()) > each["counts"].get("accepted", 0):
            rounds.append(each)
    committed = {(each["round"], each["attempt"]) for each in rounds}
    where = {"session": session, "round": [each["round"] for each in rounds]}
    ledgers = records.find(tables.PARTICIPATION, where, order="round", descending=True) if rounds else ()
    rows = (
        ({"round": ledger["round"], "client": client, "reason": ledger["reasons"].get(client, "")}, outcome)
        for ledger in ledgers
        if (ledger["round"], ledger["attempt"]) in committed
        for client, outcome in zip(ledger["clients"], ledger["outcomes"], strict=True)
        if outcome != "accepted"
    )

    def place(row: Mapping[str, Any], outcome: str) -> str:
        about = {"session": session, "round": row["round"], "client": row["client"], "name": f"update.{outcome}"}
        found = records.find(tables.EVENTS, about, order="at", descending=True, limit=1)
        return place_in(str(found[0]["data"].get("traceback", ""))) if found else ""

    return {"asked": asked, "reasons": _reasons(rows, place)}


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
        have = "has" if found["asked"] == 1 else "have"
        noun = "validation" if found["asked"] == 1 else "validations"
        text = _text(row["reason"], row["place"])
        lines.append(f"{row['count']} of {found['asked']} {noun} {have} no metrics: {text} ({_who(row)})")
    if len(rows) > MOST_SHOWN:
        lines.append(f"{sum(row['count'] for row in rows[MOST_SHOWN:])} more have none for other reasons")
    return lines


def not_accepted_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns a line for each of the three most frequent reasons: `1 of 36 updates failed: … (client3, round 1)`."""
    rows: Sequence[Mapping[str, Any]] = found["reasons"]
    lines = []
    for row in rows[:MOST_SHOWN]:
        noun = "update" if found["asked"] == 1 else "updates"
        heading = f"{row['count']} of {found['asked']} {noun} {fared(row['outcome'], row['count'])}"
        first, newest = row["first_round"], row["round"]
        when = f"round {newest}" if first == newest else f"rounds {first} to {newest}"
        text = _text(row["reason"], row["place"])
        lines.append(f"{heading}{': ' if text else ''}{text} ({_who(row)}, {when})")
    if len(rows) > MOST_SHOWN:
        lines.append(f"{sum(row['count'] for row in rows[MOST_SHOWN:])} more were not accepted for other reasons")
    return lines


def _who(row: Mapping[str, Any]) -> str:
    first, *more = row["clients"]
    return f"{first} and {len(more)} more" if more else str(first)


def _is_untested(row: Mapping[str, Any]) -> bool:
    return row.get("scope") == "test" and str(row.get("reason", "")).startswith(NO_TEST_SET)


def _once_each(rows: Sequence[Document]) -> list[Document]:
    """Returns the rows, but of a client whose trainer has no `validate` the first one only."""
    firsts = {row["client"]: row for row in reversed(rows) if row.get("reason") == NO_VALIDATE}
    return [row for row in rows if row.get("reason") != NO_VALIDATE or row is firsts[row["client"]]]


def _reasons(
    rows: Iterable[tuple[Mapping[str, Any], str]], place: Callable[[Mapping[str, Any], str], str]
) -> list[Document]:
    """Returns a row for all rows with one outcome whose reasons differ in numbers only, the most frequent first.

    `rows`: each with its outcome, newest first. `place`: returns the place in the trainer's code of such a row.
    """
    found: dict[tuple[str, str], Document] = {}
    newest: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
    clients: dict[tuple[str, str], set[str]] = {}
    for row, outcome in rows:
        key = alike(outcome, row["reason"])
        if key not in found:
            newest[key] = row, outcome
            found[key] = {"reason": row["reason"], "place": "", "count": 0, "clients": [], "round": row["round"]}
            found[key] |= {"outcome": outcome} if outcome else {}
        found[key]["count"] += 1
        found[key]["first_round"] = row["round"]
        clients.setdefault(key, set()).add(row["client"])
    for key, names in clients.items():
        found[key]["clients"] = sorted(names)
    ranked = sorted(found, key=lambda key: -found[key]["count"])
    for key in ranked[:MOST_PLACES]:
        found[key]["place"] = place(*newest[key])
    return [found[key] for key in ranked]


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
