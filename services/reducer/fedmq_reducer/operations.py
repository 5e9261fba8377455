"""The effects of a reducer on the lease, records and blobs, and their answers; retention's are in `retention.py`. Pure data.

Effects on records take place one at a time, in the order in which they were emitted, and only while the lease of their
`term` is held; else they are refused with `Fenced`. Writing the same record again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeVar

from fedmq.lease import HeldLease
from fedmq.runtime.effects import Perform, Question
from fedmq.value import value
from fedmq_schemas.messages import BlobRef, Partial
from fedmq_schemas.policy import DEFAULT_MAX_WEIGHT, Strategy, Tensors
from fedmq_schemas.records import (
    AttemptRecord,
    ClientRecord,
    CombinerRecord,
    ModelChange,
    ModelRecord,
    PartialRecord,
    Record,
    RoundRecord,
    SessionChange,
    SessionEnd,
    SessionRecord,
    SummaryRecord,
    ValidationRecord,
)

R = TypeVar("R", bound=Record)
LEASE_SECONDS = 10.0
SMALL = 1_000_000


class Recorded(Perform):
    """Base of effects that read or write the record store."""

    ordered = True
    store = "records"


class Decision(Question[R | None]):
    """Base of decisions, of which the first record counts. The answer is None, or the record that exists already."""

    __slots__ = ()
    ordered = True
    store = "records"


class ClientWords(Recorded):
    """Base of records made of what clients state. No decision depends on them.

    A store may refuse such words for good, which is no error of the reducer. It costs the record, and the message that the
    record precedes; beside decisions, these records are optional.
    """


# -- the lease ----------------------------------------------------------------------------------------------------------


@value
class Acquire(Question[int | HeldLease]):
    """Takes the lease if it is free, or if its stamp still is `lapsed`. The answer is its term, or whose it is."""

    lapsed: str = ""


@value
class Renew(Question[bool]):
    """Keeps the lease. The answer is whether this reducer still holds it."""

    term: int

    store = "records"


@value
class Release(Recorded):
    """Gives the lease up, once all earlier records are durable."""

    term: int


@value
class CheckLease(Recorded):
    """Verifies the lease once all earlier records are durable. Refused with `Fenced` if another reducer holds it.

    Precedes the acknowledgement of a message that needs no work of its own.
    """

    term: int


# -- decisions: the first record of a key counts ------------------------------------------------------------------------


@value
class RecordSession(Decision[SessionRecord]):
    """Records a session."""

    record: SessionRecord
    term: int


@value
class RecordAttempt(Decision[AttemptRecord]):
    """Records the draw of an attempt."""

    record: AttemptRecord
    term: int


@value
class RecordRound(Decision[RoundRecord]):
    """Records a round: the commit point."""

    record: RoundRecord
    term: int


@value
class RecordPartial(Recorded):
    """Records a combiner's answer to a plan, unless one is recorded."""

    record: PartialRecord
    term: int


@value
class RecordModel(Recorded):
    """Records a committed round's model, unless it is recorded: metrics that were recorded since must stay."""

    record: ModelRecord
    term: int


@value
class RecordLateValidation(ClientWords):
    """Records a validation of an ended session, unless there is one. Refused if no record shows that it had such a task."""

    record: ValidationRecord
    term: int


# -- records that replace an earlier one --------------------------------------------------------------------------------


@value
class ReplaceAttempt(Recorded):
    """Records an attempt again, with voided and new plans."""

    record: AttemptRecord
    term: int


@value
class RecordSummary(ClientWords):
    """Records the metrics that an open session has of the model that it started from."""

    record: SummaryRecord
    term: int

    is_optional = True


@value
class RecordValidations(ClientWords):
    """Records validations of open sessions."""

    records: tuple[ValidationRecord, ...]
    term: int

    def joined(self, later: Perform) -> Perform | None:
        """Joins validations of one term."""
        if isinstance(later, RecordValidations) and later.term == self.term:
            return RecordValidations(self.records + later.records, self.term)
        return None


@value
class RecordClients(ClientWords):
    """Records clients; with `term=None`, whichever reducer holds the lease. `is_known`: they have attached before."""

    records: tuple[ClientRecord, ...]
    term: int | None
    is_known: bool = False

    @property
    def is_optional(self) -> bool:
        """Whether the group stays without the record: that of an attach does not."""
        return self.is_known

    def joined(self, later: Perform) -> Perform | None:
        """Joins clients of one term."""
        if isinstance(later, RecordClients) and (later.term, later.is_known) == (self.term, self.is_known):
            return RecordClients(self.records + later.records, self.term, self.is_known)
        return None


@value
class ForgetMember(Recorded):
    """Deletes the record of a client or combiner. `field`: the field of its name."""

    table: str
    field: str
    name: str
    term: int


@value
class ForgetSession(Recorded):
    """Deletes an ended session's record, attempts, partials, windows and events. May be repeated: the record is last.

    Its ledger is kept: rounds, models, participation, validations and summaries.
    """

    session: str
    term: int


@value
class RecordCombiners(Recorded):
    """Records combiners, whichever reducer holds the lease."""

    records: tuple[CombinerRecord, ...]

    def joined(self, later: Perform) -> Perform | None:
        """Joins combiners."""
        return RecordCombiners(self.records + later.records) if isinstance(later, RecordCombiners) else None


@value
class RecordParticipation(ClientWords):
    """Records a round's ledger in columns, for readers that have no access to blobs."""

    session: str
    ledger: BlobRef
    term: int

    is_optional = True


# -- changes of a record ------------------------------------------------------------------------------------------------


@value
class ChangeSession(Recorded):
    """Sets fields of a session's record."""

    session: str
    change: SessionChange | SessionEnd
    term: int


@value
class ChangeModel(ClientWords):
    """Sets the metrics of a model's record."""

    model: str
    change: ModelChange
    term: int

    is_optional = True


# -- models and other blobs ---------------------------------------------------------------------------------------------


@value
class PutBlob(Perform):
    """Stores a small blob."""

    key: str
    data: bytes


@value
class OpenSeed(Question["OpenedSeed"]):
    """Opens the first model for clients with these `weights`. Refused if there is no such model or strategy.

    Also if the model has an opaque tensor, unless `clients_requested` is 1.
    """

    session: str
    seed: str | None
    strategy: Strategy
    weights: tuple[int, ...]
    tensors: Tensors = field(default_factory=Tensors)
    clients_requested: int | None = None


@value
class OpenedSeed:
    """The first model of a session.

    - `seed`: the id of the model that was found.
    - `model`: those of its tensors that are trained together; `base` holds the others.
    - `exponents`: the scales of the first round's sums, in the sorted order of the tensors' names.
    """

    seed: str
    model: BlobRef
    exponents: tuple[int, ...]
    base: BlobRef | None = None


@value
class Aggregate(Question["Aggregated"]):
    """Merges partials, takes the server optimizer's step, and stores the results: the same blobs each time."""

    session: str
    round: int
    attempt: int
    model: BlobRef
    optimizer: BlobRef | None
    exponents: tuple[int, ...]
    strategy: Strategy
    partials: tuple[Partial, ...]
    weighting: str = "examples"
    max_weight: int = DEFAULT_MAX_WEIGHT

    independent = True

    @property
    def heavy(self) -> bool:
        """A model above 1 MB takes long."""
        return self.model.size > SMALL


@value
class Aggregated:
    """The result of a round.

    - `exponents`: the scales of the next round's sums.
    - `metrics`: the summary of the clients' training metrics.
    - `bytes`: the sizes in sum of the models sent to clients (`down`), and of their updates (`up`).
    """

    model: BlobRef
    optimizer: BlobRef | None
    ledger: BlobRef
    total_weight: int
    counts: Mapping[str, int]
    metrics: Mapping[str, Any]
    exponents: tuple[int, ...]
    bytes: Mapping[str, int]
