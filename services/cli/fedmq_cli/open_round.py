"""The open round of a session in a terminal: its deadline, who has answered, and who has not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fedmq_cli.awaiting import subject_of
from fedmq_cli.output import duration, local_time, print_columns, say


def print_open_round(found: Mapping[str, Any], *, is_left: bool = False) -> None:
    """Prints the `open_round` or `open_validation` of a session's record: clients without an answer first.

    `is_left`: it is of a folder in which no sandbox runs, so that no deadline passes and nobody is asked.
    """
    now, clients = time.time(), found["clients"]
    answered = sum(client["outcome"] is not None for client in clients)
    left = found["deadline"] - now
    due = f"in {duration(left)}" if left >= 0 else f"{duration(-left)} ago"
    if is_left:
        say(f"\n{subject_of(found)} was open when its sandbox ended: {answered} of {len(clients)} clients had answered")
    else:
        say(
            f"\n{subject_of(found)} is open: {answered} of {len(clients)} clients have answered, deadline "
            f"{local_time(found['deadline'])} ({due})"
        )
    rows = [
        {
            **client,
            "answer": client["outcome"] or ("none" if is_left else _not_yet(now, found, client)),
            "when": local_time(client["at"]),
        }
        for client in clients
    ]
    columns = {"client": "client", "combiner": "combiner", "answer": "answer", "when": "when", "reason": ""}
    print_columns(rows, columns, "it has no client")


def _not_yet(now: float, found: Mapping[str, Any], client: Mapping[str, Any]) -> str:
    """Returns since when a client is asked: a validation may be requested of it later than of others."""
    return f"not yet, asked {duration(max(0.0, now - client.get('since', found['since'])))} ago"
