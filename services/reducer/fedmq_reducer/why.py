"""Why a client has a part in a session's newest round, or none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def why(client: Document, session: Document, attempt: Document | None, outcomes: Document | None) -> dict[str, Any]:
    """`client`, `drawn` and one sentence, `why`. `attempt` is the session's newest, `outcomes` its participation."""
    name = client["client"]
    drawn = attempt is not None and any(name in plan["clients"] for plan in attempt["plans"] if not plan["voided"])
    return {"client": name, "drawn": drawn, "why": _why(client, session, attempt, outcomes, drawn)}


def _why(client: Document, session: Document, attempt: Document | None, outcomes: Document | None, drawn: bool) -> str:
    if attempt is not None and drawn:
        at = f"round {attempt['round']}, attempt {attempt['attempt']}"
        if outcomes is None or client["client"] not in outcomes["clients"]:
            return f"{at}: asked, and not yet answered"
        outcome = outcomes["outcomes"][outcomes["clients"].index(client["client"])]
        reason = outcomes["reasons"].get(client["client"])
        return f"{at}: {outcome}" + (f": {reason}" if reason else "")
    if client["state"] != "present":
        return f"its combiner, {client['combiner']}, does not hear it"
    if "train" not in client["tasks"]:
        return "it validates only"
    if attempt is None:
        return f"no round is planned yet; the session is {session['state']}" + (
            f", {session['waiting']}" if session["waiting"] else ""
        )
    return f"it was not drawn for round {attempt['round']}, or came after the draw"
