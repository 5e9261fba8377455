"""Who has answered the newest attempt of a session, or the validation of its newest model, and who has not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.ledgers import OUTCOMES
from fedmq_schemas.records import WindowRecord, requested_of

MOST_EVENTS = 20_000
MOST_REFUSALS = 1_000
_NO_ANSWER: Document = {"outcome": None, "reason": "", "at": None}


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


def absences(records: Records) -> dict[str, str]:
    """Returns why each client that is away takes no part."""
    away = records.find(tables.CLIENTS, {"state": "away"})
    if not away:
        return {}
    names = {"name": "client.refused", "client": [client["client"] for client in away]}
    refusals: dict[str, Document] = {}
    for event in records.find(tables.EVENTS, names, order="at", descending=True, limit=MOST_REFUSALS):
        refusals.setdefault(event["client"], event)
    combiners = {each["combiner"]: each for each in records.find(tables.COMBINERS)}
    return {
        client["client"]: absence(client, combiners.get(client["combiner"]), refusals.get(client["client"]))
        for client in away
    }


def absence(client: Document, combiner: Document | None, refusal: Document | None) -> str:
    """Returns why a client that is away takes no part, from the records of client and combiner.

    `refusal`: the newest event `client.refused` of the client, if there is one.
    """
    if refusal is not None and refusal["at"] > client["last_seen"]:
        return f"it was refused: {refusal['data'].get('reason', '')}"
    if combiner is None or combiner["state"] != "present":
        return f"its combiner, {client['combiner']}, is away"
    last = datetime.fromtimestamp(client["last_seen"], UTC)
    return f"its combiner, {client['combiner']}, receives no messages from it, the last at {last:%H:%M:%S} UTC"


def open_round(records: Records, session: Document) -> dict[str, Any] | None:
    """Returns the attempt whose plans are open, or None if there is none.

    `deadline` and `since` are UTC seconds since 1970. `clients` lists the clients that were asked, those without an
    `outcome` first. The `reason` of one of these states why it is away, if it is.
    """
    if session["state"] != "running":
        return None
    attempt = newest_attempt(records, session["session"])
    key = keys.round_record(session["session"], attempt["round"]) if attempt is not None else ""
    if attempt is None or records.get(tables.ROUNDS, key) is not None:
        return None
    answers = answers_so_far(records, session, attempt)
    away = absences(records)
    clients = [
        {
            "client": client,
            "combiner": plan["combiner"],
            **answers.get(client, _NO_ANSWER | {"reason": away.get(client, "")}),
        }
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


def open_validation(records: Records, session: Document) -> dict[str, Any] | None:
    """Returns the validation that the session waits for, as `open_round`; None if it waits for none.

    That is the validation of a model whose score decides whether a round follows, or at the end that of the last models:
    the newest one that lacks an answer. Each of its `clients` has `since`, when it was requested.
    """
    name, is_scoring = session["session"], session["state"] == "running"
    newest = newest_attempt(records, name)
    if newest is None or not (is_scoring or session["state"] == "validating"):
        return None
    if is_scoring and records.get(tables.ROUNDS, keys.round_record(name, newest["round"])) is None:
        return None
    where = {"session": name, **({"round": newest["round"]} if is_scoring else {})}
    found = records.find(tables.WINDOWS, where, order="round", descending=True, limit=2)
    windows = [_window(records, WindowRecord.model_validate(each)) for each in found]
    shown = [window for window in windows if _awaited(window)] or ([] if is_scoring else windows)
    return shown[0] if shown else None


def _window(records: Records, window: WindowRecord) -> dict[str, Any]:
    """Returns who was requested to validate the window's model, each with the answer; those without one first."""
    where = {"session": window.session, "model": window.model}
    answers = {each["client"]: each for each in records.find(tables.VALIDATIONS, where)}
    clients = [
        {
            "client": client,
            "combiner": combiner,
            "since": since,
            **_outcome(answers.get(client), client in window.absent),
        }
        for client, (combiner, since) in requested_of(window.requests).items()
    ]
    return {
        "round": window.round,
        "since": min(client["since"] for client in clients),
        "deadline": window.closes_at,
        "clients": sorted(clients, key=lambda each: (each["outcome"] is not None, each["client"])),
    }


def _outcome(answer: Document | None, is_absent: bool) -> Document:
    if answer is None:
        return {**_NO_ANSWER, "outcome": "absent"} if is_absent else _NO_ANSWER
    return {"outcome": "validated", "reason": answer["reason"], "at": answer["at"]}


def _awaited(window: Document) -> list[str]:
    return [client["client"] for client in window["clients"] if client["outcome"] is None]


def not_validated(records: Records, session: Document, number: int) -> dict[str, str]:
    """Returns the clients that have not validated the model of round `number`, each with what is known of that."""
    where = {"session": session["session"], "round": number, "name": "validation.absent"}
    found = {
        event["client"]: f"absent: {event['data']['reason']}"
        for event in records.find(tables.EVENTS, where, order="at", limit=MOST_EVENTS)
    }
    window = records.get(tables.WINDOWS, keys.round_record(session["session"], number))
    if window is not None:
        is_over = session["state"] in tables.ENDED
        words = f"had not answered when the session ended ({session['state']})" if is_over else "not yet answered"
        for client in _awaited(_window(records, WindowRecord.model_validate(window))):
            found.setdefault(client, f"asked, and {words}")
    return {client: f"validation of model {number}: {words}" for client, words in found.items()}
