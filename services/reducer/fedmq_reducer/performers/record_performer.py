"""Performs a reducer's effects on records: the lease, writing decisions, and reading them when it takes over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from fedmq.codec import explain
from fedmq.errors import Fenced, ProtocolError, Refused
from fedmq.lease import HeldLease
from fedmq.records.base import Lease, Records
from fedmq_reducer import operations
from fedmq_reducer.operations import (
    Acquire,
    ChangeModel,
    ChangeSession,
    CheckLease,
    ForgetMember,
    ForgetSession,
    RecordAttempt,
    RecordClients,
    RecordCombiners,
    RecordLateValidation,
    RecordModel,
    RecordPartial,
    RecordRound,
    RecordSession,
    RecordSummary,
    RecordValidations,
    Release,
    Renew,
    ReplaceAttempt,
)
from fedmq_reducer.performers.late_validations import check_late
from fedmq_reducer.sessions.recording import RecordWindow
from fedmq_reducer.snapshot import Load, SessionSnapshot, Snapshot
from fedmq_schemas import records as tables
from fedmq_schemas.records import (
    AttemptRecord,
    ClientRecord,
    CombinerRecord,
    ModelRecord,
    PartialRecord,
    Record,
    RoundRecord,
    SessionRecord,
    ValidationRecord,
    WindowRecord,
)

R = TypeVar("R", bound=Record)


class RecordPerformer:
    """The performers of one reducer. `holder` names its process: two processes never share it."""

    def __init__(self, holder: str, records: Records, lease_seconds: float = operations.LEASE_SECONDS) -> None:
        self._holder = holder
        self._records = records
        self._lease_seconds = lease_seconds

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        """Returns the performer of each class of effects."""
        return {
            Acquire: self.acquire,
            Renew: self.renew,
            Release: self.release,
            CheckLease: self.check_lease,
            Load: self.load,
            RecordSession: lambda effect: self.insert(effect.record, effect.term),
            RecordAttempt: lambda effect: self.insert(effect.record, effect.term),
            RecordRound: lambda effect: self.insert(effect.record, effect.term),
            RecordPartial: lambda effect: self.insert(effect.record, effect.term),
            RecordModel: lambda effect: self.insert(effect.record, effect.term),
            RecordLateValidation: self.record_late_validation,
            ReplaceAttempt: lambda effect: self.replace([effect.record], effect.term),
            RecordWindow: lambda effect: self.replace([effect.record], effect.term),
            RecordSummary: lambda effect: self.replace([effect.record], effect.term),
            RecordValidations: lambda effect: self.replace(effect.records, effect.term),
            RecordClients: lambda effect: self.replace(effect.records, effect.term),
            RecordCombiners: lambda effect: self.replace(effect.records, None),
            ChangeSession: self.change_session,
            ChangeModel: self.change_model,
            ForgetMember: self.forget_member,
            ForgetSession: self.forget_session,
        }

    # -- the lease --------------------------------------------------------------------------------------------------

    def acquire(self, effect: Acquire) -> int | HeldLease:
        """Takes the lease if it is free or lapsed. Returns its term, or whose it is."""
        found = self._records.acquire(self._holder, self._lease_seconds, effect.lapsed)
        return found.epoch if isinstance(found, Lease) else found

    def renew(self, effect: Renew) -> bool:
        """Prolongs the lease. Returns whether this reducer still holds it."""
        return self._records.renew(Lease(self._holder, effect.term), self._lease_seconds)

    def check_lease(self, effect: CheckLease) -> None:
        """Prolongs the lease. Raises Fenced if another reducer holds it."""
        if not self._records.renew(Lease(self._holder, effect.term), self._lease_seconds):
            raise Fenced(f"another reducer holds the lease; term {effect.term} is over")

    def release(self, effect: Release) -> None:
        """Gives the lease up."""
        self._records.release(Lease(self._holder, effect.term))

    # -- writing ----------------------------------------------------------------------------------------------------

    def insert(self, record: R, term: int) -> R | None:
        """Writes a record unless its key has one. Returns the existing record, or None."""
        existing = self._records.insert(record.table, record.key, record.document(), term)
        return type(record).model_validate(existing) if existing is not None else None

    def record_late_validation(self, effect: RecordLateValidation) -> ValidationRecord | None:
        """Writes a validation as `insert`. Raises Refused if the client can't have had such a task."""
        check_late(self._records, effect.record)
        return self.insert(effect.record, effect.term)

    def replace(self, records: Sequence[Record], term: int | None) -> None:
        """Writes records of one table, over earlier ones of their keys. Raises a refusal after all others are written."""
        try:
            self._replace(records, term)
        except (ProtocolError, Refused) as error:
            if len(records) > 1 and not isinstance(error, Fenced):
                self._replace_each(records, term)
            raise

    def _replace_each(self, records: Sequence[Record], term: int | None) -> None:
        for record in records:
            with contextlib.suppress(ProtocolError, Refused):
                self._replace([record], term)

    def _replace(self, records: Sequence[Record], term: int | None) -> None:
        items = [(record.key, record.document()) for record in records]
        self._records.put_many(records[0].table, items, term)

    def change_session(self, effect: ChangeSession) -> None:
        """Sets fields of a session's record."""
        self._records.update(tables.SESSIONS, effect.session, effect.change.fields(), effect.term)

    def change_model(self, effect: ChangeModel) -> None:
        """Sets fields of a model's record."""
        self._records.update(tables.MODELS, effect.model, effect.change.fields(), effect.term)

    def forget_member(self, effect: ForgetMember) -> None:
        """Deletes a record. Raises Fenced if another reducer holds the lease: a deletion alone is not fenced."""
        self.check_lease(CheckLease(effect.term))
        self._records.delete(effect.table, {effect.field: effect.name})

    def forget_session(self, effect: ForgetSession) -> None:
        """Deletes records of a session. Raises Fenced as `forget_member`."""
        self.check_lease(CheckLease(effect.term))
        for table in (tables.ATTEMPTS, tables.PARTIALS, tables.WINDOWS, tables.EVENTS, tables.SESSIONS):
            self._records.delete(table, {"session": effect.session})

    # -- reading ----------------------------------------------------------------------------------------------------

    def load(self, effect: Load) -> Snapshot:
        """Returns what a reducer that takes over needs. Raises Refused if a record can't be read."""
        open_states = ["queued", "waiting", "running", "validating"]
        found = self._find(SessionRecord, {"state": open_states}, order="position")
        newest = self._records.find(tables.SESSIONS, order="position", descending=True, limit=1)
        return Snapshot(
            sessions=tuple(self._session(record) for record in found),
            unannounced=self._find(SessionRecord, {"announced": False}, order="position"),
            clients=self._find(ClientRecord),
            combiners=self._find(CombinerRecord),
            next_position=newest[0]["position"] + 1 if newest else 0,
        )

    def _session(self, record: SessionRecord) -> SessionSnapshot:
        name = {"session": record.session}
        rounds = self._find(RoundRecord, name, order="round")
        following = rounds[-1].round + 1 if rounds else 1
        attempts = self._find(AttemptRecord, {**name, "round": following}, order="attempt")
        partials = [
            found
            for found in self._find(PartialRecord, name)
            if attempts and (found.partial.plan.round, found.partial.plan.attempt) == (following, attempts[-1].attempt)
        ]
        validations: dict[str, dict[str, ValidationRecord]] = {}
        for validation in self._find(ValidationRecord, name, order="at"):
            validations.setdefault(validation.model, {})[validation.client] = validation
        expired = frozenset(model.round for model in self._find(ModelRecord, {**name, "kept": False}))
        windows = self._find(WindowRecord, name, order="round")
        return SessionSnapshot(record, rounds, attempts, tuple(partials), validations, expired, windows)

    def _find(self, kind: type[R], where: dict[str, Any] | None = None, *, order: str | None = None) -> tuple[R, ...]:
        return tuple(_read(kind, found) for found in self._records.find(kind.table, where, order=order))


def _read(kind: type[R], document: dict[str, Any]) -> R:
    """Returns the record in a document. Raises Refused, which names the record and its fault."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        name = ", ".join(f"{key} {document[key]!r}" for key in ("session", "client", "combiner") if key in document)
        raise Refused(f"a record of table {kind.table} can't be read ({name}): {explain(error)}") from error
