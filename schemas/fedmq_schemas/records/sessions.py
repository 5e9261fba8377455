"""Records of sessions."""

from __future__ import annotations

from typing import Any, Literal

from fedmq_schemas.messages import BlobRef, Frozen
from fedmq_schemas.records.base import Change, Record
from fedmq_schemas.records.tables import SESSIONS, SessionState


class Score(Frozen):
    """The selected metric of a session after `round`, from which the session decides whether to stop early.

    `value` is the metric of the round's model, None if no client reported it. Patience counts from `best_round`, whose
    model has the value `best`.
    """

    round: int
    value: float | None
    metric: str
    mode: str
    best: float | None = None
    best_round: int = 0


class SessionRecord(Record):
    """A session.

    `policy` is plain data, because this version may not accept another version's policy. `seed` is the id of the model that
    the session starts from, None until it is chosen. `base` holds the tensors that are not shared. Once the session has
    ended, `round` and `model` are the last committed ones, and `announced` says whether the end was published.
    """

    table = SESSIONS
    identity = "session"
    later = frozenset({"round", "model", "announced"})

    session: str
    name: str | None = None
    state: SessionState
    waiting: str = ""
    waiting_until: float | None = None
    reason: str = ""
    policy: dict[str, Any]
    seed: str | None = None
    random_seed: int
    position: int
    stop_after_round: bool = False
    base: BlobRef | None = None
    started_at: float | None = None
    score: Score | None = None
    created_at: float
    ended_at: float | None = None
    round: int | None = None
    model: str | None = None
    announced: bool | None = None


class SessionChange(Change):
    """A change of an open session, or of one whose end is being published."""

    state: SessionState | None = None
    waiting: str | None = None
    waiting_until: float | None = None
    seed: str | None = None
    base: BlobRef | None = None
    started_at: float | None = None
    score: Score | None = None
    stop_after_round: bool | None = None
    announced: bool | None = None


class SessionEnd(Change):
    """The end of a session. `round` is the last committed round, and `model` its model, or the seed."""

    state: Literal["finished", "failed", "stopped"]
    reason: str
    round: int
    model: str | None
    announced: bool
    ended_at: float
    waiting: str
    waiting_until: float | None

    @classmethod
    def of(cls, record: SessionRecord) -> SessionEnd:
        """Returns the end of a recorded session, marked as not yet published."""
        return cls.model_validate({**record.model_dump(), "announced": False})
