"""Records of clients, combiners, and the state of the system."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fedmq_schemas.messages import Stall
from fedmq_schemas.records.base import Record
from fedmq_schemas.records.tables import CLIENTS, COMBINERS, SYSTEM


class ClientRecord(Record):
    """A client. `state` is `present` while its combiner receives presence messages. `ordinal` is None unless it trains.

    `json_reader`: it attached in JSON, so messages to it are JSON; left out if not.
    """

    table = CLIENTS
    identity = "client"

    client: str
    labels: dict[str, str]
    tasks: tuple[str, ...]
    weight: int
    package: str | None = None
    software: str = ""
    combiner: str
    ordinal: int | None = None
    state: Literal["present", "away"]
    last_seen: float
    json_reader: bool = Field(False, exclude_if=lambda reads: not reads)


class CombinerRecord(Record):
    """A combiner. `clients` is its number of present clients; `stalls` are those that it has reported last."""

    table = COMBINERS
    identity = "combiner"

    combiner: str
    state: Literal["present", "away"]
    last_seen: float
    clients: int = 0
    stalls: tuple[Stall, ...] = Field((), exclude_if=lambda stalls: not stalls)


class SystemRecord(Record):
    """The latest measurement of the reducer that decides, of the queues, the stores, its sessions or its stalls (`what`).

    It was taken at `at`.

    `reason` says why a measurement failed. `disk` describes the disk of embedded stores and is None for remote ones.
    `waits` maps each open session to the place in the code where it waits, and to what it waits for.
    """

    table = SYSTEM
    identity = "what"
    later = frozenset({"queues", "stores", "disk", "waits", "stalls"})

    what: Literal["queues", "stores", "sessions", "stalls"]
    at: float
    reason: str = ""
    queues: tuple[dict[str, Any], ...] = ()
    stores: tuple[dict[str, Any], ...] = ()
    disk: dict[str, int] | None = None
    waits: dict[str, str] = Field(default_factory=dict)
    stalls: tuple[Stall, ...] = ()
