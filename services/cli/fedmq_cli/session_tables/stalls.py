"""Names the servers that did not answer while a session ran that has failed: the cause is often there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.visible import visible
from fedmq_cli.output import say

MOST_SHOWN = 3


def say_stalls(session: Mapping[str, Any], *, err: bool = False) -> None:
    """Prints the longest stalls of a session's record, a line each, if it has any."""
    found = session.get("stalls", ())
    for text in found[:MOST_SHOWN]:
        say(f"while it ran, {visible(text)}", err=err)
    if len(found) > MOST_SHOWN:
        say(f"and {len(found) - MOST_SHOWN} more: fedmq events", err=err)
