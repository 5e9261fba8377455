"""Carries out a reducer's work on records: the lease, documents, and what a new reducer must know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedmq.errors import Fenced
from fedmq.records.base import Lease, Records
from fedmq_reducer import operations
from fedmq_reducer.operations import (
    Acquire,
    Change,
    CheckLease,
    Insert,
    Load,
    Put,
    PutMany,
    Release,
    Renew,
    SessionSnapshot,
    Snapshot,
)
from fedmq_schemas import records as tables


class RecordPerformer:
    """The performers of one reducer. `holder` names its process: two processes never share it."""

    def __init__(self, holder: str, records: Records, lease_seconds: float = operations.LEASE_SECONDS) -> None:
        self._holder = holder
        self._records = records
        self._lease_seconds = lease_seconds

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        return {
            Acquire: self.acquire,
            Renew: self.renew,
            Release: self.release,
            Load: self.load,
            Insert: lambda effect: self._records.insert(effect.table, effect.key, effect.document, effect.term),
            Put: lambda effect: self._records.put(effect.table, effect.key, effect.document, effect.term),
            Change: lambda effect: self._records.update(effect.table, effect.key, effect.fields, effect.term),
            PutMany: lambda effect: self._records.put_many(effect.table, effect.items, effect.term),
            CheckLease: self.check_lease,
        }

    def acquire(self, effect: Acquire) -> int | None:
        lease = self._records.acquire(self._holder, self._lease_seconds)
        return lease.epoch if lease is not None else None

    def renew(self, effect: Renew) -> bool:
        return self._records.renew(Lease(self._holder, effect.term), self._lease_seconds)

    def check_lease(self, effect: CheckLease) -> None:
        if not self._records.renew(Lease(self._holder, effect.term), self._lease_seconds):
            raise Fenced(f"another reducer holds the lease; term {effect.term} is over")

    def release(self, effect: Release) -> None:
        self._records.release(Lease(self._holder, effect.term))

    def load(self, effect: Load) -> Snapshot:
        open_states = ["queued", "waiting", "running", "validating"]
        found = self._records.find(tables.SESSIONS, {"state": open_states}, order="position")
        newest = self._records.find(tables.SESSIONS, order="position", descending=True, limit=1)
        return Snapshot(
            sessions=tuple(self._session(document) for document in found),
            unannounced=tuple(self._records.find(tables.SESSIONS, {"announced": False}, order="position")),
            clients=tuple(self._records.find(tables.CLIENTS)),
            combiners=tuple(self._records.find(tables.COMBINERS)),
            next_position=newest[0]["position"] + 1 if newest else 0,
        )

    def _session(self, document: dict[str, Any]) -> SessionSnapshot:
        name = document["session"]
        rounds = tuple(self._records.find(tables.ROUNDS, {"session": name}, order="round"))
        following = rounds[-1]["round"] + 1 if rounds else 1
        attempts = tuple(self._records.find(tables.ATTEMPTS, {"session": name, "round": following}, order="attempt"))
        prefix = f"{name}/{following}/train/{attempts[-1]['attempt']}/" if attempts else ""
        partials = [
            partial
            for partial in self._records.find(tables.PARTIALS, {"session": name})
            if attempts and partial["plan"].startswith(prefix)
        ]
        validations: dict[str, dict[str, Any]] = {}
        for validation in self._records.find(tables.VALIDATIONS, {"session": name}):
            validations.setdefault(validation["model"], {})[validation["client"]] = validation
        gone = self._records.find(tables.MODELS, {"session": name, "kept": False})
        expired = frozenset(model["round"] for model in gone)
        return SessionSnapshot(document, rounds, attempts, tuple(partials), validations, expired)
