"""Records of rounds: attempts, partials, commits, and the outcome of each task."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from fedmq_schemas import keys
from fedmq_schemas.ledgers import Ledger, Outcome
from fedmq_schemas.messages import BlobRef, Frozen, Partial
from fedmq_schemas.records.base import Record
from fedmq_schemas.records.tables import ATTEMPTS, PARTIALS, PARTICIPATION, ROUNDS


class PlannedPartRecord(Frozen):
    """One plan of an attempt. `part` is the number in its key."""

    part: int
    combiner: str
    clients: tuple[str, ...]
    voided: bool = False


class AttemptRecord(Record):
    """The draw of one attempt: everything that a reducer needs to send its plans again.

    `model` and `optimizer` are the model and the optimizer state that the round starts from.
    """

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
        """The key in its table."""
        return keys.attempt_record(self.session, self.round, self.attempt)


class PartialRecord(Record):
    """The partial of one plan. `plan` is the key of the record."""

    table = PARTIALS
    identity = "plan"

    session: str
    plan: str
    combiner: str
    partial: Partial

    @classmethod
    def of(cls, partial: Partial, combiner: str) -> PartialRecord:
        """Returns the record of a message."""
        plan = partial.plan
        return cls(session=plan.session, plan=keys.partial_record(plan), combiner=combiner, partial=partial)


class RoundRecord(Record):
    """A committed round.

    `exponents` are those of the next round. `seconds` is the duration of the round. `resumed_after` is how much of it had
    passed when a reducer resumed the round last, which includes all time in which nothing ran; 0 if none did. `bytes` counts
    the models that clients received (`down`) and the updates that they uploaded (`up`).
    """

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
    resumed_after: float = Field(0.0, exclude_if=lambda seconds: not seconds)
    epoch: int
    committed_at: float

    @property
    def key(self) -> str:
        """The key in its table."""
        return keys.round_record(self.session, self.round)


class Participation(Record):
    """The outcome of each task of an attempt, in columns sorted by client.

    `seconds` holds a column per step, with None where a client did not measure the step. `reasons` holds the reasons of
    the clients whose updates were not accepted.
    """

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
        """Returns the columns of a round's ledger. The ledger is valid; nothing is validated again."""
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
        """The key in its table."""
        return keys.attempt_record(self.session, self.round, self.attempt)
