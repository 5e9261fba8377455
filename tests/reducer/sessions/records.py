"""Records of a session: those that effects write, and those that a reducer finds when it takes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from fedmq.runtime.effects import Effect
from fedmq_reducer.operations import ChangeModel, ChangeSession, RecordValidations
from fedmq_reducer.snapshot import SessionSnapshot, Snapshot
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import (
    AttemptRecord,
    ModelChange,
    PlannedPartRecord,
    Record,
    RoundRecord,
    SessionChange,
    SessionEnd,
    SessionRecord,
)
from support.cores import blob

R = TypeVar("R", bound=Record)


def recorded(effects: Sequence[Effect], kind: type[R]) -> list[R]:
    """Returns the records of a kind that are written, in order."""
    found: list[Record] = []
    for effect in effects:
        if isinstance(effect, RecordValidations):
            found += effect.records
        elif isinstance(record := getattr(effect, "record", None), Record):
            found.append(record)
    return [record for record in found if isinstance(record, kind)]


def session_changes(effects: Sequence[Effect]) -> list[SessionChange | SessionEnd]:
    return [effect.change for effect in effects if isinstance(effect, ChangeSession)]


def ends(effects: Sequence[Effect]) -> list[tuple[str, str]]:
    """Returns state and reason of the sessions that are recorded as ended."""
    return [(change.state, change.reason) for change in session_changes(effects) if isinstance(change, SessionEnd)]


def model_changes(effects: Sequence[Effect]) -> list[ModelChange]:
    return [effect.change for effect in effects if isinstance(effect, ChangeModel)]


# -- what an earlier reducer has recorded -------------------------------------------------------------------------------


def session_record(state: str = "running", **fields: Any) -> SessionRecord:
    """A session of two rounds that require two clients, by default one that has opened its seed."""
    policy = Policy(rounds=2, clients_required=2, validation="none", random_seed=1)
    known = {"session": "s", "state": state, "policy": policy.model_dump(mode="json"), "random_seed": 1, "position": 0}
    return SessionRecord.model_validate({**known, "created_at": 0.0, "seed": "seed", "started_at": 10.0, **fields})


def attempt_record(number: int = 1, attempt: int = 1) -> AttemptRecord:
    """The draw of two clients at two combiners."""
    plans = tuple(PlannedPartRecord(part=part, combiner=f"k{part + 1}", clients=(f"c{part + 1}",)) for part in (0, 1))
    return AttemptRecord(
        session="s",
        round=number,
        attempt=attempt,
        model=blob(f"models/parent-of-{number}"),
        exponents=(3,),
        plans=plans,
        epoch=1,
        created_at=500.0,
    )


def round_record(number: int = 1, session: str = "s") -> RoundRecord:
    return RoundRecord(
        session=session,
        round=number,
        attempt=1,
        model=blob(f"models/{session}-{number:04d}"),
        parent=blob(f"models/{session}-{number - 1:04d}" if number > 1 else "models/seed"),
        ledger=blob(f"ledger-of-{number}"),
        total_weight=2,
        counts={"accepted": 2},
        metrics={},
        exponents=(4,),
        seconds=5.0,
        epoch=1,
        committed_at=600.0,
    )


def snapshot(*sessions: SessionSnapshot) -> Snapshot:
    return Snapshot(sessions, next_position=len(sessions))
