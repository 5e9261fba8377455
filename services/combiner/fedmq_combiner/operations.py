"""What a combiner asks its app to do with tensors and blobs. Pure data."""

from __future__ import annotations

from fedmq.effects import Perform
from fedmq.frozen import frozen
from fedmq_schemas.messages import BlobRef, Plan
from fedmq_schemas.records import Ledger, LedgerEntry

SMALL = 1_000_000


@frozen
class Open(Perform):
    """Learn the model's tensors, the clients (where they go by reference), and a checkpoint if there is one.
    Reports `Opened`."""

    plan: Plan
    incarnation: int

    reports = True


@frozen
class Opened:
    clients: tuple[str, ...]
    saved: tuple[LedgerEntry, ...]


@frozen
class Fold(Perform):
    """Fetch, verify, then add an update. Reports `Folded`; `InvalidUpdate` changes nothing in the sum."""

    plan: str
    incarnation: int
    client: str
    blob: BlobRef
    weight: int

    reports = True
    independent = True
    batched = True

    @property
    def heavy(self) -> bool:
        return self.blob.size > SMALL


@frozen
class Folded:
    norm: float


@frozen
class Save(Perform):
    """Write a checkpoint: the sum so far and the outcomes in it. Reports."""

    plan: str
    incarnation: int
    entries: tuple[LedgerEntry, ...]

    reports = True

    @property
    def heavy(self) -> bool:
        return True


@frozen
class Close(Perform):
    """Write partial and ledger. Reports `Closed`."""

    plan: Plan
    incarnation: int
    ledger: Ledger

    reports = True

    @property
    def heavy(self) -> bool:
        return self.plan.model.size > SMALL


@frozen
class Closed:
    sum: BlobRef | None
    ledger: BlobRef
    total_weight: int


@frozen
class Drop(Perform):
    """Forget the plan's sum."""

    plan: str
    incarnation: int
