"""What the alliance waits for: the stalls of this process, of the reducer that decides, and of combiners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmq.records.base import Document, Records
from fedmq.runtime.stalls import Stalls, describe
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Stall


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
