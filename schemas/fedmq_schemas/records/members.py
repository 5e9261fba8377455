"""Records of who and what is there: clients, combiners, queues and stores."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fedmq_schemas.records.base import Record
from fedmq_schemas.records.tables import CLIENTS, COMBINERS, SYSTEM


class ClientRecord(Record):
    """A client. `state`: whether its combiner receives signs of life from it. `ordinal` None: it does not train."""

    table = CLIENTS

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

    @property
    def key(self) -> str:
        return self.client


class CombinerRecord(Record):
    """A combiner, and its number of clients."""

    table = COMBINERS

    combiner: str
    state: Literal["present", "away"]
    last_seen: float
    clients: int = 0

    @property
    def key(self) -> str:
        return self.combiner


class SystemRecord(Record):
    """What the reducer saw of the queues, of the stores or of its sessions (`what`) when it last looked. `reason`: why it
    saw nothing. `disk`: the disk of the stores, None where they lie elsewhere. `waits`: for each session under way, where
    its course stands in the code and what it waits for."""

    table = SYSTEM
    later = frozenset({"queues", "stores", "disk", "waits"})

    what: Literal["queues", "stores", "sessions"]
    at: float
    reason: str = ""
    queues: tuple[dict[str, Any], ...] = ()
    stores: tuple[dict[str, Any], ...] = ()
    disk: dict[str, int] | None = None
    waits: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.what
