"""Who has answered the newest attempt of a session, with what, and who has not: also while its round is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.ledgers import OUTCOMES

MOST_EVENTS = 20_000


def newest_attempt(records: Records, session: str) -> Document | None:
    """Returns the record of the newest attempt of a session, or None before its first draw."""
    found = records.find(tables.ATTEMPTS, {"session": session}, order="created_at", descending=True, limit=1)
    return found[0] if found else None


def answers_so_far(records: Records, session: Document, attempt: Document) -> dict[str, Document]:
    """Returns the answers of the attempt's clients: `outcome`, `reason` and `at` by client.

    They come from the ledger once the attempt is aggregated. Before, and if it has failed, they come from its events.
    """
    key = keys.attempt_record(session["session"], attempt["round"], attempt["attempt"])
    ledger = records.get(tables.PARTICIPATION, key)
    if ledger is not None:
        columns = zip(ledger["clients"], ledger["outcomes"], ledger["at"], strict=True)
        reasons: Mapping[str, str] = ledger["reasons"]
        return {
            client: {"outcome": outcome, "reason": reasons.get(client, ""), "at": at} for client, outcome, at in columns
        }
    # A discarded update is late, or is repeated: its client has another outcome, or none yet.
    names = [f"update.{outcome}" for outcome in OUTCOMES if outcome != "discarded"]
    where = {"session": session["session"], "round": attempt["round"], "name": names}
    began, timeout = attempt["created_at"], session["policy"]["timeout"]
    found: dict[str, Document] = {}
    for event in records.find(tables.EVENTS, where, order="at", after=began, limit=MOST_EVENTS):
        if event["name"] == "update.absent" and event["at"] < began + timeout / 2:
            continue  # of the attempt before this one, by a clock that is ahead of the reducer's
        outcome, reason = event["name"].removeprefix("update."), event["data"].get("reason", "")
        found[event["client"]] = {"outcome": outcome, "reason": reason, "at": event["at"]}
    return found


def open_round(records: Records, session: Document) -> dict[str, Any] | None:
    """Returns the attempt whose plans are open, or None if there is none.

    `deadline` and `since` are UTC seconds since 1970. `clients` lists the clients that were asked, those without an
    `outcome` first.
    """
    if session["state"] != "running":
        return None
    attempt = newest_attempt(records, session["session"])
    key = keys.round_record(session["session"], attempt["round"]) if attempt is not None else ""
    if attempt is None or records.get(tables.ROUNDS, key) is not None:
        return None
    answers = answers_so_far(records, session, attempt)
    none = {"outcome": None, "reason": "", "at": None}
    clients = [
        {"client": client, "combiner": plan["combiner"], **answers.get(client, none)}
        for plan in attempt["plans"]
        if not plan["voided"]
        for client in plan["clients"]
    ]
    return {
        "round": attempt["round"],
        "attempt": attempt["attempt"],
        "since": attempt["created_at"],
        "deadline": attempt["created_at"] + session["policy"]["timeout"],
        "clients": sorted(clients, key=lambda each: (each["outcome"] is not None, each["client"])),
    }
