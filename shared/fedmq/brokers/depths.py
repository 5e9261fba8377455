"""How full a broker's queues are, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue at one instant. `ready` messages wait, `unacked` ones are with a consumer; None: not known."""

    name: str
    ready: int
    unacked: int | None
    consumers: int
