"""The effects of a combiner on tensors and blobs, and their answers. Pure data.

`incarnation` counts how often the combiner has started over. A plan that is received again after a lost connection has a new
sum, which must not be changed by effects of an earlier incarnation.
"""

from __future__ import annotations

from fedmq.runtime.effects import Perform, Question
from fedmq.value import value
from fedmq_schemas.messages import BlobRef, Plan
from fedmq_schemas.records import Ledger, LedgerEntry

SMALL = 1_000_000


@value
class Open(Question["Opened"]):
    """Begins the plan's sum: reads the model's layout, and if there are any, a list of clients and a checkpoint."""

    plan: Plan
    incarnation: int


@value
class Opened:
    """The clients of a plan.

    - `saved`: the outcomes in the checkpoint, whose updates are in the sum.
    - `most_bytes`: no valid update is larger.
    - `binds_uploads`: whether the store accepts no other bytes than those for which an upload was permitted.
    """

    clients: tuple[str, ...]
    saved: tuple[LedgerEntry, ...]
    most_bytes: int = 0
    binds_uploads: bool = True


@value
class Fold(Question["Folded"]):
    """Verifies an update and adds it to the sum. Refused with `InvalidUpdate`, which leaves the sum as it was."""

    plan: str
    incarnation: int
    client: str
    blob: BlobRef
    weight: int

    independent = True

    @property
    def heavy(self) -> bool:
        """An update above 1 MB takes long."""
        return self.blob.size > SMALL


@value
class Folded:
    """The result of folding. `norm`: L2 norm of the delta's trainable tensors, before weighting.

    `blob`: the update, under the key that holds its hash.
    """

    norm: float
    blob: BlobRef


@value
class Save(Question[None]):
    """Writes a checkpoint: the sum so far and the outcomes in it."""

    plan: str
    incarnation: int
    entries: tuple[LedgerEntry, ...]

    @property
    def heavy(self) -> bool:
        """A checkpoint holds the whole sum."""
        return True


@value
class Close(Question["Closed"]):
    """Writes the partial and the ledger, and forgets the sum."""

    plan: Plan
    incarnation: int
    ledger: Ledger

    @property
    def heavy(self) -> bool:
        """A model above 1 MB takes long."""
        return self.plan.model.size > SMALL


@value
class Closed:
    """The stored partial. `sum`: its blob, or None if no update was accepted.

    `rejected`: entries of the ledger that had been accepted. Only a rule that needs every update reads them again at the end
    of the round, and then rejects those that have changed in the store or do not fit the others.
    """

    sum: BlobRef | None
    ledger: BlobRef
    total_weight: int
    rejected: tuple[LedgerEntry, ...] = ()


@value
class Drop(Perform):
    """Forgets the plan's sum."""

    plan: str
    incarnation: int
