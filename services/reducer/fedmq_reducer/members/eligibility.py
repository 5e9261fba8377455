"""Explains why a client takes part in a session's newest round, or does not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ENDED

Document = Mapping[str, Any]


def ineligible_because(policy: Policy, name: str, labels: Mapping[str, str], package: str | None, trains: bool) -> str:
    """Returns why the policy does not let this client take part, or an empty text."""
    if name in policy.clients.exclude:
        return "the policy excludes it"
    if not trains:
        return ""
    for label, wanted in policy.clients.where.items():
        if labels.get(label) != wanted:
            found = f"{labels[label]!r}" if label in labels else "not set"
            return f"its label {label} is {found}, and the policy wants {wanted!r}"
    if policy.package not in (None, package):
        found = f"{package[:12]}…" if package else "unknown"
        return f"its compute package is {found}, and the policy wants {str(policy.package)[:12]}…"
    return ""


def explain(
    client: Document, session: Document, attempt: Document | None, answer: Document | None, away: str = ""
) -> dict[str, Any]:
    """Returns `client`, `drawn`, and one sentence `why`, from the newest attempt and the client's answer to it.

    `answer` has `outcome` and `reason`. None: the client has not answered. `away`: the `absence` of a client that is away.
    """
    name = client["client"]
    drawn = attempt is not None and any(name in plan["clients"] for plan in attempt["plans"] if not plan["voided"])
    sentence = (
        _drawn_sentence(session, attempt, answer, away)
        if drawn and attempt
        else away or _idle_sentence(client, session, attempt)
    )
    return {"client": name, "drawn": drawn, "why": sentence}


def _drawn_sentence(session: Document, attempt: Document, answer: Document | None, away: str) -> str:
    at = f"round {attempt['round']}, attempt {attempt['attempt']}"
    if answer is not None:
        return f"{at}: {answer['outcome']}" + (f": {answer['reason']}" if answer["reason"] else "")
    if session["state"] in ENDED:
        return f"{at}: asked, and had not answered when the session ended ({session['state']})"
    waits = f"; {away}: the round waits for it until its deadline" if away else ""
    return f"{at}: asked, and not yet answered{waits}"


def _idle_sentence(client: Document, session: Document, attempt: Document | None) -> str:
    if "train" not in client["tasks"]:
        return "it validates only"
    policy = Policy.model_validate(session["policy"])
    ineligible = ineligible_because(policy, client["client"], client["labels"], client["package"], True)
    if ineligible:
        return ineligible
    if attempt is None:
        waiting = f", {session['waiting']}" if session["waiting"] else ""
        return f"no round is planned yet; the session is {session['state']}{waiting}"
    return f"it was not drawn for round {attempt['round']}, or joined after the draw"
