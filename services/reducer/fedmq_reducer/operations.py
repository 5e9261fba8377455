"""The effects of a reducer on records, blobs and the lease, and their answers. Pure data.

Effects on records take place one at a time, in the order in which they were emitted, and only while the lease of their
`term` is held; else they are refused with `Fenced`. Writing the same record again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from fedmq.runtime.effects import Perform, Question
from fedmq.value import value
from fedmq_schemas.messages import BlobRef, Partial
from fedmq_schemas.policy import ModelSelection, Strategy, Tensors
from fedmq_schemas.records import (
    AttemptRecord,
    ClientRecord,
    CombinerRecord,
    ModelChange,
    ModelRecord,
    PartialRecord,
    RoundRecord,
    SessionChange,
    SessionEnd,
    SessionRecord,
    SummaryRecord,
    ValidationRecord,
)

LEASE_SECONDS = 10.0
SMALL = 1_000_000


class Recorded(Perform):
    """Base of effects that read or write the record store."""

    ordered = True


# -- the lease ----------------------------------------------------------------------------------------------------------


@value
class Acquire(Question[int | None]):
    """Takes the lease if it is free. The answer is its term, or None."""


@value
class Renew(Question[bool]):
    """Keeps the lease. The answer is whether this reducer still holds it."""

    term: int


@value
class Release(Recorded):
    """Gives the lease up, once all earlier records are durable."""

    term: int


@value
class CheckLease(Recorded):
    """Verifies the lease once all earlier records are durable. Raises `Fenced` if another reducer holds it. Precedes the
    acknowledgement of a message that needs no work of its own."""

    term: int


# -- what a reducer that takes over reads -------------------------------------------------------------------------------


@value
class Load(Question["Snapshot"]):
    """Reads what is decided."""

    ordered = True


@value
class SessionSnapshot:
    """A session that has not ended: its record, its rounds in order, the attempts of the round after the last committed
    one, the partials of the newest of them, and its validations (model id → client → record). `expired_rounds`: rounds
    whose models are no longer kept."""

    session: SessionRecord
    rounds: tuple[RoundRecord, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    partials: tuple[PartialRecord, ...] = ()
    validations: Mapping[str, Mapping[str, ValidationRecord]] = field(default_factory=dict)
    expired_rounds: frozenset[int] = frozenset()


@value
class Snapshot:
    """`unannounced`: sessions whose recorded end may not have been published. `next_position`: that of the next session in
    the queue."""

    sessions: tuple[SessionSnapshot, ...] = ()
    unannounced: tuple[SessionRecord, ...] = ()
    clients: tuple[ClientRecord, ...] = ()
    combiners: tuple[CombinerRecord, ...] = ()
    next_position: int = 0


# -- decisions: the first record of a key counts ------------------------------------------------------------------------


@value
class RecordSession(Question[SessionRecord | None]):
    """Records a session. The answer is None, or the record that is there already."""

    record: SessionRecord
    term: int

    ordered = True


@value
class RecordAttempt(Question[AttemptRecord | None]):
    """Records the draw of an attempt. The answer is None, or the record that is there already."""

    record: AttemptRecord
    term: int

    ordered = True


@value
class RecordRound(Question[RoundRecord | None]):
    """Records a round: the commit point. The answer is None, or the record that is there already."""

    record: RoundRecord
    term: int

    ordered = True


@value
class RecordPartial(Recorded):
    """Records a combiner's answer to a plan, unless one is recorded."""

    record: PartialRecord
    term: int


@value
class RecordModel(Recorded):
    """Records a committed round's model, unless it is recorded: what its session has found of it since stays."""

    record: ModelRecord
    term: int


@value
class RecordLateValidation(Recorded):
    """Records a validation of a session that has ended, unless that session has one of this model by this client: what is
    recorded of an ended session stays as it is. `tag`: as in `RecordValidations`."""

    record: ValidationRecord
    tag: int
    term: int


# -- records that replace an earlier one --------------------------------------------------------------------------------


@value
class ReplaceAttempt(Recorded):
    """Records an attempt again, with voided and new plans."""

    record: AttemptRecord
    term: int


@value
class RecordSummary(Recorded):
    """Records what an open session has found of the model that it started from."""

    record: SummaryRecord
    term: int


@value
class RecordValidations(Recorded):
    """Records validations of sessions that are open. `tags`: their deliveries, to be rejected if the record store refuses
    them."""

    records: tuple[ValidationRecord, ...]
    tags: tuple[int, ...]
    term: int

    def joined(self, later: Perform) -> Perform | None:
        if isinstance(later, RecordValidations) and later.term == self.term:
            return RecordValidations(self.records + later.records, self.tags + later.tags, self.term)
        return None


@value
class RecordClients(Recorded):
    """Records clients. `term` None: whoever holds the lease."""

    records: tuple[ClientRecord, ...]
    term: int | None

    def joined(self, later: Perform) -> Perform | None:
        if isinstance(later, RecordClients) and later.term == self.term:
            return RecordClients(self.records + later.records, self.term)
        return None


@value
class RecordCombiners(Recorded):
    """Records combiners, whoever holds the lease."""

    records: tuple[CombinerRecord, ...]

    def joined(self, later: Perform) -> Perform | None:
        return RecordCombiners(self.records + later.records) if isinstance(later, RecordCombiners) else None


@value
class RecordParticipation(Recorded):
    """Records a round's ledger in columns, for readers that have no access to blobs."""

    session: str
    ledger: BlobRef
    term: int


# -- changes of a record ------------------------------------------------------------------------------------------------


@value
class ChangeSession(Recorded):
    """Sets fields of a session's record."""

    session: str
    change: SessionChange | SessionEnd
    term: int


@value
class ChangeModel(Recorded):
    """Sets fields of a model's record."""

    model: str
    change: ModelChange
    term: int


# -- models and other blobs ---------------------------------------------------------------------------------------------


@value
class PutBlob(Perform):
    """Stores a small blob."""

    key: str
    data: bytes


@value
class OpenSeed(Question["OpenedSeed"]):
    """Finds the session's first model, checks and adopts it, and checks the strategy. `weights`: those that clients
    announce. Refused if there is no such model or strategy."""

    session: str
    seed: str | None
    strategy: Strategy
    weights: tuple[int, ...]
    tensors: Tensors = field(default_factory=Tensors)


@value
class OpenedSeed:
    """`seed`: the id of the model that was found. `model`: what of it is trained together, `base` what is not.
    `exponents`: the scales of the first round's sums, in the sorted order of the tensors' names."""

    seed: str
    model: BlobRef
    exponents: tuple[int, ...]
    base: BlobRef | None = None


@value
class Aggregate(Question["Aggregated"]):
    """Merges the partials, takes the server optimizer's step, and stores model, optimizer state and ledger. The same
    request gives the same blobs."""

    session: str
    round: int
    attempt: int
    model: BlobRef
    optimizer: BlobRef | None
    exponents: tuple[int, ...]
    strategy: Strategy
    partials: tuple[Partial, ...]

    independent = True

    @property
    def heavy(self) -> bool:
        return self.model.size > SMALL


@value
class Aggregated:
    """`exponents` are the next round's. `metrics` are the clients' training metrics, summarized. `bytes`: of models sent to
    clients (`down`) and of the updates that came back (`up`)."""

    model: BlobRef
    optimizer: BlobRef | None
    ledger: BlobRef
    total_weight: int
    counts: Mapping[str, int]
    metrics: Mapping[str, Any]
    exponents: tuple[int, ...]
    bytes: Mapping[str, int]


# -- retention ----------------------------------------------------------------------------------------------------------


@value
class Sweep(Perform):
    """Deletes the uploads of the session's rounds up to `up_to_round`."""

    session: str
    up_to_round: int

    independent = True

    @property
    def heavy(self) -> bool:
        return True


@value
class ExpireModels(Recorded):
    """Marks models of `session` up to round `up_to_round` for deletion. Keeps: the best model by `select`; every
    `every`-th model (0 keeps none); that of round `newest`; those of `open_rounds`, which are still being validated."""

    session: str
    newest: int
    up_to_round: int
    every: int
    select: ModelSelection
    term: int
    open_rounds: frozenset[int] = frozenset()


@value
class Delete(Perform):
    """Deletes the bytes of all models that are marked. With `session`, also those of its marked models that a reducer has
    stored again after it had lost its lease."""

    term: int
    session: str | None = None

    independent = True

    @property
    def heavy(self) -> bool:
        return True
