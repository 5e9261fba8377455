"""Records of sessions."""

from __future__ import annotations

from typing import Any, Literal

from fedmq_schemas.messages import BlobRef, Frozen
from fedmq_schemas.records.base import Change, Record
from fedmq_schemas.records.tables import SESSIONS, SessionState


class Score(Frozen):
    """Where a session stands by its metric after `round`, whose model has `value` (None: nobody gave one). `best` and
    `best_round`: the value that patience counts from. A session's decision to stop follows from its recorded score."""

    round: int
    value: float | None
    metric: str
    mode: str
    best: float | None = None
    best_round: int = 0


class SessionRecord(Record):
    """A session. `policy` is plain data, as another version's policy may not be readable. `seed`: the id of the model that
    it starts from; None: to be found. `base`: the tensors that don't travel. From its end on there are `round` and `model`,
    the last committed ones, and `announced`, whether the end has been published."""

    table = SESSIONS
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

    @property
    def key(self) -> str:
        return self.session


class SessionChange(Change):
    """A change of a session that is open, or whose end is being announced."""

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
    """The end of a session. `round`: the last committed one. `model`: its model, or the seed."""

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
        """Returns the end that a session's record states, marked as not published yet."""
        return cls.model_validate({**record.model_dump(), "announced": False})
