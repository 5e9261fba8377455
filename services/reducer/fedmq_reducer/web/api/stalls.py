"""What the alliance waits for, or waited for while a session ran.

These are the stalls of this process, of the reducer that decides, and of combiners.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fedmq.records.base import Document, Records
from fedmq.runtime.stalls import Stalls, describe
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Stall

MOST_EVENTS = 1000


def all_stalls(records: Records, own: Stalls) -> Sequence[dict[str, Any]]:
    """Returns each stall as plain data, with `process`, and with its description as `text`.

    Of a store that stalls this process, the stall of the reducer that decides, which may be another one, is left out.
    """
    mine = own.current()
    deciding = records.get(tables.SYSTEM, "stalls") or {"stalls": ()}
    others = [Stall.model_validate(stall) for stall in deciding["stalls"]]
    known = {stall.store for stall in mine}
    found = [("reducer", stall) for stall in (*mine, *(stall for stall in others if stall.store not in known))]
    for combiner in records.find(tables.COMBINERS, {"state": "present"}):
        reported = (Stall.model_validate(stall) for stall in combiner.get("stalls", ()))
        found += [(f"combiner {combiner['combiner']}", stall) for stall in reported]
    return [{"process": process, **stall.model_dump(), "text": describe(stall)} for process, stall in found]


def with_stalls(session: Document, stalls: Sequence[dict[str, Any]]) -> Document:
    """Returns the record of a session. If it is under way, `waiting` also describes the stalls."""
    if session["state"] == "queued" or session["state"] in tables.ENDED or not stalls:
        return session
    texts = dict.fromkeys(f"{stall['process']}: {stall['text']}" for stall in stalls)
    return {**session, "waiting": "; ".join(filter(None, [session["waiting"], *texts]))}


def stalls_during(records: Records, session: Document) -> list[str]:
    """Returns the stalls that fell into the time of an ended session, the longest first, each with its process and times.

    `reducer r1: MongoDB at m does not answer, 14:05:31 to 14:06:02 UTC`. Of many events, the newest 1,000 are looked at.
    """
    names = {"name": ["stall.began", "stall.ended"]}
    events = records.find(tables.EVENTS, names, order="at", descending=True, limit=MOST_EVENTS)
    started = session["started_at"] or session["ended_at"]
    lasted: dict[tuple[str, str], float] = {}
    found = []
    for event in events:  # an end is met before its beginning
        data = event["data"]
        key = str(data.get("process", "")), str(data.get("store", ""))
        if event["name"] == "stall.ended":
            lasted[key] = float(data.get("seconds", 0.0))
            continue
        began, seconds = float(data.get("since", event["at"])), lasted.pop(key, None)
        ended = time.time() if seconds is None else began + seconds
        if began < session["ended_at"] and ended > started:
            times = f"since {_clock(began)} UTC" if seconds is None else f"{_clock(began)} to {_clock(ended)} UTC"
            found.append((began - ended, f"{key[0]}: {data.get('reason', '')}, {times}"))
    return [text for _, text in sorted(found)]


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"
