"""What a combiner's core asks its performers to do with tensors and blobs. Pure data.

`incarnation` numbers the times that the combiner has started over. A plan that comes again after a lost connection has
another sum; work that was asked for before must not touch it.
"""

from __future__ import annotations

from fedmq.runtime.effects import Perform, Question
from fedmq.value import value
from fedmq_schemas.messages import BlobRef, Plan
from fedmq_schemas.records import Ledger, LedgerEntry

SMALL = 1_000_000


@value
class Open(Question["Opened"]):
    """Reads the layout of the model, the clients (where the plan refers to a list), and the checkpoint if there is one.
    Begins the plan's sum."""

    plan: Plan
    incarnation: int


@value
class Opened:
    """`saved`: the outcomes in the checkpoint; the sum contains their updates."""

    clients: tuple[str, ...]
    saved: tuple[LedgerEntry, ...]


@value
class Fold(Question["Folded"]):
    """Fetches and verifies an update, then adds it to the sum. Refused with `InvalidUpdate`, which leaves the sum as it
    was."""

    plan: str
    incarnation: int
    client: str
    blob: BlobRef
    weight: int

    independent = True

    @property
    def heavy(self) -> bool:
        return self.blob.size > SMALL


@value
class Folded:
    """`norm`: L2 norm of the delta, before weighting."""

    norm: float


@value
class Save(Question[None]):
    """Writes a checkpoint: the sum so far and the outcomes in it."""

    plan: str
    incarnation: int
    entries: tuple[LedgerEntry, ...]

    @property
    def heavy(self) -> bool:
        return True


@value
class Close(Question["Closed"]):
    """Writes the partial and the ledger, and forgets the sum."""

    plan: Plan
    incarnation: int
    ledger: Ledger

    @property
    def heavy(self) -> bool:
        return self.plan.model.size > SMALL


@value
class Closed:
    """`sum`: the partial's blob; None if no update was accepted."""

    sum: BlobRef | None
    ledger: BlobRef
    total_weight: int


@value
class Drop(Perform):
    """Forgets the plan's sum."""

    plan: str
    incarnation: int
