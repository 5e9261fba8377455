"""Who has answered the newest attempt of a session, or the validation of its last model, and who has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.records.base import Document, Records
from fedmq_reducer.members.eligibility import ineligible_because
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.ledgers import OUTCOMES
from fedmq_schemas.policy import Policy

MOST_EVENTS = 20_000
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
    clients = [
        {"client": client, "combiner": plan["combiner"], **answers.get(client, _NO_ANSWER)}
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
    """Returns the validation of the last model while the session waits for it, as `open_round`; None before and after."""
    if session["state"] != "validating":
        return None
    name = session["session"]
    rounds = records.find(tables.ROUNDS, {"session": name}, order="round", descending=True, limit=1)
    if not rounds:
        return None
    made, policy = rounds[0], Policy.model_validate(session["policy"])
    where = {"session": name, "model": keys.model_id(made["model"]["key"])}
    answers = {each["client"]: each for each in records.find(tables.VALIDATIONS, where)}
    clients = [
        {"client": client["client"], "combiner": client["combiner"], **_validated(answers.get(client["client"]))}
        for client in records.find(tables.CLIENTS, {"state": "present"})
        if _is_to_validate(policy, client)
    ]
    since = made["committed_at"]
    return {
        "round": made["round"],
        "since": since,
        "deadline": since + policy.validation_timeout,
        "clients": sorted(clients, key=lambda each: (each["outcome"] is not None, each["client"])),
    }


def _validated(answer: Document | None) -> Document:
    if answer is None:
        return _NO_ANSWER
    return {"outcome": "validated", "reason": answer["reason"], "at": answer["at"]}


def _is_to_validate(policy: Policy, client: Document) -> bool:
    trains = "train" in client["tasks"]
    if "validate" not in client["tasks"] or (trains and policy.validation == "none"):
        return False
    return not ineligible_because(policy, client["client"], client["labels"], client["package"], trains)


def not_validated(records: Records, session: Document, number: int) -> dict[str, str]:
    """Returns the clients that have not validated the model of round `number`, each with what is known of that."""
    where = {"session": session["session"], "round": number, "name": "validation.absent"}
    found = {
        event["client"]: f"absent: {event['data']['reason']}"
        for event in records.find(tables.EVENTS, where, order="at", limit=MOST_EVENTS)
    }
    is_open = open_validation(records, session) or {"clients": ()}
    found |= {each["client"]: "asked, and not yet answered" for each in is_open["clients"] if each["outcome"] is None}
    return {client: f"validation of model {number}: {words}" for client, words in found.items()}
