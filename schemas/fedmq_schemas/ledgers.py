"""Ledgers: blobs (JSON) that list what became of each task, so that a sum can be recomputed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from fedmq_schemas.messages import BlobRef, Frozen, Metrics, PlanKey

Outcome = Literal["accepted", "rejected", "discarded", "abstained", "failed", "absent"]
OUTCOMES: tuple[Outcome, ...] = ("accepted", "rejected", "discarded", "abstained", "failed", "absent")


class LedgerEntry(Frozen):
    """What became of one task. `norm` is the L2 norm of the delta, before weighting. `at`: UTC seconds since 1970 when the
    combiner settled it. `seconds`: where the time went. The client says fetch, validate, train, upload, and total from
    when it first received the task; the combiner adds fold, and transit: between the client's clock at publishing and
    its own at folding, so that a clock that is wrong shows."""

    client: str
    outcome: Outcome
    reason: str = ""
    weight: int = 0
    blob: BlobRef | None = None
    norm: float | None = None
    metrics: Metrics = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    at: float | None = None


def count_outcomes(entries: Iterable[LedgerEntry]) -> dict[str, int]:
    """Returns how many entries have each outcome; all outcomes are named."""
    counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
    for entry in entries:
        counts[entry.outcome] += 1
    return {str(outcome): count for outcome, count in counts.items()}


class Ledger(Frozen):
    """The ledger blob (JSON): enough to recompute a sum. A partial's ledger covers one plan; a round's covers all of its
    plans, with entries sorted by client."""

    session: str
    round: int
    attempt: int
    parent: BlobRef
    exponents: tuple[int, ...]
    total_weight: int
    entries: tuple[LedgerEntry, ...]
    plans: tuple[PlanKey, ...]
    strategy: dict[str, Any] = Field(default_factory=dict)
    optimizer: BlobRef | None = None
