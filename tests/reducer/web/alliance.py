"""What tests of the web API do with the alliance that they share."""

from __future__ import annotations

from typing import Any

import httpx

from fedmq_schemas.records import ENDED
from support.waiting import until

SEED = "seed-5d1e84adb228"
"""The first model, which the trainer of the package makes."""


def await_end(api: httpx.Client, session: str) -> dict[str, Any]:
    """Waits until a session has ended, and returns it."""

    def found() -> dict[str, Any] | None:
        answer = api.get(f"/sessions/{session}")
        document: dict[str, Any] = answer.json()
        return document if answer.status_code == 200 and document["state"] in ENDED else None

    return until(found, f"session {session} has ended")


def wait_until_recorded(api: httpx.Client, session: str) -> None:
    """Waits until a session is recorded."""
    until(lambda: api.get(f"/sessions/{session}").status_code == 200, f"session {session} is recorded")


def count_sessions(api: httpx.Client) -> int:
    return len(api.get("/sessions", params={"limit": 1000}).json()["items"])
