"""Records of rounds: their attempts, the answers of combiners, the commit, and what became of each task."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from fedmq_schemas import keys
from fedmq_schemas.ledgers import Ledger, Outcome
from fedmq_schemas.messages import BlobRef, Frozen, Partial
from fedmq_schemas.records.base import Record
from fedmq_schemas.records.tables import ATTEMPTS, PARTIALS, PARTICIPATION, ROUNDS


class PlannedPartRecord(Frozen):
    """One plan of an attempt. `part` is its number in the plan's key."""

    part: int
    combiner: str
    clients: tuple[str, ...]
    voided: bool = False


class AttemptRecord(Record):
    """The draw of one attempt: all that a reducer needs to send the attempt's plans again. `model` and `optimizer` are
    those that the round starts from."""

    table = ATTEMPTS

    session: str
    round: int
    attempt: int
    model: BlobRef
    optimizer: BlobRef | None = None
    exponents: tuple[int, ...]
    plans: tuple[PlannedPartRecord, ...]
    epoch: int
    created_at: float

    @property
    def key(self) -> str:
        return keys.attempt_record(self.session, self.round, self.attempt)


class PartialRecord(Record):
    """A combiner's answer to a plan. `plan` is the key of the record."""

    table = PARTIALS

    session: str
    plan: str
    combiner: str
    partial: Partial

    @classmethod
    def of(cls, partial: Partial, combiner: str) -> PartialRecord:
        plan = partial.plan
        return cls(session=plan.session, plan=keys.partial_record(plan), combiner=combiner, partial=partial)

    @property
    def key(self) -> str:
        return self.plan


class RoundRecord(Record):
    """A committed round. `exponents` are the next round's. `seconds`: how long the round took. `bytes`: of models sent to
    clients (`down`) and of the updates that came back (`up`)."""

    table = ROUNDS

    session: str
    round: int
    attempt: int
    model: BlobRef
    parent: BlobRef
    base: BlobRef | None = None
    optimizer: BlobRef | None = None
    ledger: BlobRef
    total_weight: int
    counts: dict[str, int]
    metrics: dict[str, Any]
    exponents: tuple[int, ...]
    bytes: dict[str, int] = Field(default_factory=dict)
    seconds: float
    epoch: int
    committed_at: float

    @property
    def key(self) -> str:
        return keys.round_record(self.session, self.round)


class Participation(Record):
    """What became of each task of an attempt, one column a field, sorted by client. `seconds`: a column a step, None
    where a client did not say. `reasons`: of those that were not accepted."""

    table = PARTICIPATION

    session: str
    round: int
    attempt: int
    clients: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    weights: tuple[int, ...]
    norms: tuple[float | None, ...]
    at: tuple[float | None, ...]
    seconds: dict[str, tuple[float | None, ...]]
    reasons: dict[str, str]

    @classmethod
    def of(cls, ledger: Ledger) -> Participation:
        """Returns the columns of a round's ledger. Checks nothing, as the ledger is valid."""
        entries = ledger.entries
        steps = sorted({step for entry in entries for step in entry.seconds})
        return cls.model_construct(
            session=ledger.session,
            round=ledger.round,
            attempt=ledger.attempt,
            clients=tuple([entry.client for entry in entries]),
            outcomes=tuple([entry.outcome for entry in entries]),
            weights=tuple([entry.weight for entry in entries]),
            norms=tuple([entry.norm for entry in entries]),
            at=tuple([entry.at for entry in entries]),
            seconds={step: tuple([entry.seconds.get(step) for entry in entries]) for step in steps},
            reasons={entry.client: entry.reason for entry in entries if entry.reason},
        )

    @property
    def key(self) -> str:
        return keys.attempt_record(self.session, self.round, self.attempt)
