"""What a reducer reads when it takes over: the earlier decisions that still matter. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from fedmq.runtime.effects import Question
from fedmq.value import value
from fedmq_schemas.records import (
    AttemptRecord,
    ClientRecord,
    CombinerRecord,
    PartialRecord,
    RoundRecord,
    SessionRecord,
    ValidationRecord,
    WindowRecord,
)


@value
class Load(Question["Snapshot"]):
    """Reads all earlier decisions that still matter."""

    ordered = True


@value
class SessionSnapshot:
    """A session that has not ended, as its records say.

    - `rounds`: the committed ones, in order.
    - `attempts`: those at the round after the last committed one.
    - `partials`: those of the newest of these attempts.
    - `validations`: model id → client → record.
    - `expired_rounds`: rounds whose models are no longer kept.
    - `windows`: whom the session has requested to validate its models, in the order of these models' rounds.
    """

    session: SessionRecord
    rounds: tuple[RoundRecord, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    partials: tuple[PartialRecord, ...] = ()
    validations: Mapping[str, Mapping[str, ValidationRecord]] = field(default_factory=dict)
    expired_rounds: frozenset[int] = frozenset()
    windows: tuple[WindowRecord, ...] = ()


@value
class Snapshot:
    """The records that a reducer needs when it takes over.

    `unannounced`: sessions whose recorded end may not have been published. `next_position`: the position in the queue of
    the next session to be started.
    """

    sessions: tuple[SessionSnapshot, ...] = ()
    unannounced: tuple[SessionRecord, ...] = ()
    clients: tuple[ClientRecord, ...] = ()
    combiners: tuple[CombinerRecord, ...] = ()
    next_position: int = 0
