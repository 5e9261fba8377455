"""Ledgers: JSON blobs with the outcome of each task, from which a sum can be recomputed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ConfigDict, Field

from fedmq_schemas.messages import BlobRef, Frozen, PersonalStart, PlanKey

Outcome = Literal["accepted", "rejected", "discarded", "abstained", "failed", "absent"]
OUTCOMES: tuple[Outcome, ...] = ("accepted", "rejected", "discarded", "abstained", "failed", "absent")


class LedgerEntry(Frozen):
    """The outcome of one task.

    `norm` is the L2 norm of the delta's trainable tensors before weighting. `at` is when the combiner settled the task,
    in UTC seconds since 1970. `seconds` maps steps to durations. The client measures `fetch`, `validate`, `train`,
    `upload`, and `total` since it first received the task. The combiner adds `fold` and `transit`. `transit` is the
    time from the client's clock at publishing to the combiner's clock at folding, which reveals a wrong clock. `personal` is
    what the client's update states of its local tensors and private state; None, and left out, unless the policy is
    `personal = "continue"`.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a ledger of an earlier version may hold NaN

    client: str
    outcome: Outcome
    reason: str = ""
    weight: int = 0
    blob: BlobRef | None = None
    norm: float | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    at: float | None = None
    personal: PersonalStart | None = Field(None, exclude_if=lambda personal: personal is None)


def count_outcomes(entries: Iterable[LedgerEntry]) -> dict[str, int]:
    """Returns the number of entries per outcome, including outcomes without entries."""
    counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
    for entry in entries:
        counts[entry.outcome] += 1
    return {str(outcome): count for outcome, count in counts.items()}


class Ledger(Frozen):
    """A ledger.

    The ledger of a partial covers one plan. The ledger of a round covers all plans of the committed attempt, with entries
    sorted by client.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

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
