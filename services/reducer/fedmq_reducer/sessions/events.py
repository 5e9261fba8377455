"""The events that a session's routine can wait for, beside answers and timers. Pure data."""

from __future__ import annotations

from fedmq.value import value
from fedmq_reducer.sessions.attempt import PlannedPart
from fedmq_reducer.sessions.session import Stage
from fedmq_schemas.messages import Partial


@value
class Answered:
    """A new partial has arrived for an open part; `tag` is its delivery, to be acknowledged."""

    part: PlannedPart
    partial: Partial
    tag: int


@value
class CombinersChanged:
    """Combiners have come or vanished, and their clients have moved."""


@value
class MembersChanged:
    """A combiner has reported that clients came or went."""


@value
class ValidationCounted:
    """A validation of one of the session's models has arrived and is counted."""


class Ended(Exception):
    """Raised in a routine where its session ends: `stage` is FAILED or STOPPED."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
