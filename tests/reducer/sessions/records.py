"""What the effects of a session record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fedmq.runtime.effects import Effect
from fedmq_reducer.operations import (
    ChangeModel,
    ChangeSession,
    RecordAttempt,
    RecordLateValidation,
    RecordModel,
    RecordPartial,
    RecordRound,
    RecordSession,
    RecordSummary,
    RecordValidations,
    ReplaceAttempt,
)
from fedmq_schemas.records import ModelChange, Record, SessionChange, SessionEnd

R = TypeVar("R", bound=Record)


def recorded(effects: Sequence[Effect], kind: type[R]) -> list[R]:
    """Returns the records of a kind that are written, in order."""
    found: list[Record] = []
    for effect in effects:
        match effect:
            case (
                RecordSession(record=record) | RecordAttempt(record=record) | RecordRound(record=record)
                | RecordPartial(record=record) | ReplaceAttempt(record=record) | RecordModel(record=record)
                | RecordSummary(record=record) | RecordLateValidation(record=record)
            ):  # fmt: skip
                found.append(record)
            case RecordValidations(records=records):
                found += records
    return [record for record in found if isinstance(record, kind)]


def session_changes(effects: Sequence[Effect]) -> list[SessionChange | SessionEnd]:
    return [effect.change for effect in effects if isinstance(effect, ChangeSession)]


def ends(effects: Sequence[Effect]) -> list[tuple[str, str]]:
    """Returns state and reason of the sessions that are recorded as ended."""
    return [(change.state, change.reason) for change in session_changes(effects) if isinstance(change, SessionEnd)]


def model_changes(effects: Sequence[Effect]) -> list[ModelChange]:
    return [effect.change for effect in effects if isinstance(effect, ChangeModel)]
