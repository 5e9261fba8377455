"""What a reducer asks its app to do with records, blobs and the lease. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from fedmq.effects import Perform, Question
from fedmq.frozen import frozen
from fedmq_schemas.messages import BlobRef, Partial
from fedmq_schemas.policy import Select, Strategy, Tensors

LEASE_SECONDS = 10.0
SMALL = 1_000_000


class Recorded(Perform):
    """Base of what reads or writes the record store: one at a time, in order."""

    lane = "records"


@frozen
class Acquire(Question[int | None]):
    """Take the lease if it is free. Reports its term, or None."""


@frozen
class Renew(Question[bool]):
    """Keep the lease. Reports whether it still is ours."""

    term: int


@frozen
class Release(Perform):
    """Give the lease up, at a clean stop."""

    term: int


@frozen
class Load(Question["Snapshot"]):
    """Read what is decided. Reports a `Snapshot`."""

    lane = "records"


@frozen
class SessionSnapshot:
    """A session that has not ended: its documents, rounds in order, the attempts of the round after the last committed
    one, the partials of the newest of them, and who has validated which model (model id → client → document).
    `expired_rounds`: rounds whose models are no longer kept."""

    session: Mapping[str, Any]
    rounds: tuple[Mapping[str, Any], ...] = ()
    attempts: tuple[Mapping[str, Any], ...] = ()
    partials: tuple[Mapping[str, Any], ...] = ()
    validations: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    expired_rounds: frozenset[int] = frozenset()


@frozen
class Snapshot:
    """`unannounced`: documents of sessions whose recorded end may not have been told."""

    sessions: tuple[SessionSnapshot, ...] = ()
    unannounced: tuple[Mapping[str, Any], ...] = ()
    clients: tuple[Mapping[str, Any], ...] = ()
    combiners: tuple[Mapping[str, Any], ...] = ()
    next_position: int = 0


@frozen
class Insert(Question[Mapping[str, Any] | None]):
    """Insert a document under a unique key, on condition of the lease. Reports None, or the document already there."""

    table: str
    key: str
    document: Mapping[str, Any]
    term: int

    lane = "records"


@frozen
class Put(Recorded):
    """Insert or replace a document, on condition of the lease."""

    table: str
    key: str
    document: Mapping[str, Any]
    term: int

    def joined(self, later: Perform) -> Perform | None:
        return PutMany(self.table, ((self.key, self.document),), self.term).joined(later)


@frozen
class Change(Recorded):
    """Set fields of a document, on condition of the lease."""

    table: str
    key: str
    fields: Mapping[str, Any]
    term: int


@frozen
class PutMany(Recorded):
    """Insert or replace documents; on condition of the lease if they have a term."""

    table: str
    items: tuple[tuple[str, Mapping[str, Any]], ...]
    term: int | None = None

    def joined(self, later: Perform) -> Perform | None:
        match later:
            case Put(self.table, key, document, self.term):
                return PutMany(self.table, (*self.items, (key, document)), self.term)
            case PutMany(self.table, items, self.term):
                return PutMany(self.table, self.items + items, self.term)
        return None


@frozen
class CheckLease(Recorded):
    """Verifies the lease once all earlier records are durable. Raises `Fenced` if another reducer holds it. Precedes the
    acknowledgement of a message that needs no work of its own."""

    term: int


@frozen
class PutBlob(Perform):
    """Store a small blob."""

    key: str
    data: bytes


@frozen
class OpenSeed(Question["OpenedSeed"]):
    """Find the session's first model, check and adopt it, and check the strategy. Reports `OpenedSeed`; refused where
    there is no such model or strategy."""

    session: str
    seed: str | None
    strategy: Strategy
    weights: tuple[int, ...]
    tensors: Tensors = field(default_factory=Tensors)


@frozen
class OpenedSeed:
    """`seed`: the id of the model that was found. `model`: what of it is trained together, `base` what is not."""

    seed: str
    model: BlobRef
    exponents: tuple[int, ...]
    base: BlobRef | None = None


@frozen
class Aggregate(Question["Aggregated"]):
    """Merge the partials, take the server optimizer's step, store model, optimizer state and ledger.
    Reports `Aggregated`."""

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


@frozen
class Aggregated:
    """`exponents` are the next round's. `metrics` are the clients' training metrics, summarised. `bytes`: of models sent
    to clients (`down`) and of the updates that came back (`up`)."""

    model: BlobRef
    optimizer: BlobRef | None
    ledger: BlobRef
    total_weight: int
    counts: Mapping[str, int]
    metrics: Mapping[str, Any]
    exponents: tuple[int, ...]
    bytes: Mapping[str, int]


@frozen
class TellLedger(Recorded):
    """Record a round's ledger in columns, for readers that have no access to blobs."""

    session: str
    ledger: BlobRef
    key: str
    term: int


@frozen
class Sweep(Perform):
    """Delete the uploads of rounds that the session's retention no longer covers."""

    session: str
    up_to_round: int

    independent = True

    @property
    def heavy(self) -> bool:
        return True


@frozen
class ExpireModels(Recorded):
    """Marks models of `session` up to round `up_to_round` for deletion. Keeps: the best model by `select`; every
    `every`-th model (0 keeps none); that of round `newest`; those of `open_rounds`, which are still being validated."""

    session: str
    newest: int
    up_to_round: int
    every: int
    select: Select
    term: int
    open_rounds: frozenset[int] = frozenset()


@frozen
class Delete(Perform):
    """Delete the bytes of all models that were let go; with `session` look for any of its own that have come back."""

    term: int
    session: str | None = None

    independent = True

    @property
    def heavy(self) -> bool:
        return True
