"""The events that a session's routine can wait for, apart from answers and timers. Pure data."""

from __future__ import annotations

from fedmq.value import value
from fedmq_reducer.sessions.attempt import PlannedPart
from fedmq_reducer.sessions.session import Stage
from fedmq_schemas.messages import Partial


@value
class Answered:
    """A new partial was received for an open part. `tag`: its delivery, to be acknowledged."""

    part: PlannedPart
    partial: Partial
    tag: int


@value
class CombinersChanged:
    """Combiners have joined or vanished, and clients were moved."""


@value
class MembersChanged:
    """A combiner has reported that clients joined or vanished."""


@value
class ValidationCounted:
    """A validation of one of the session's models was received and is counted."""


class Ended(Exception):
    """Raised in a routine to end its session. `stage`: FAILED or STOPPED."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
