"""Attempts at a round: their parts, with one plan each, and the partials that answer the plans. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedmq.reasons import count_alike, fared, shortened
from fedmq.runtime.effects import Ack
from fedmq_schemas.messages import OutcomeReason, Partial, PlanKey
from fedmq_schemas.records import PlannedPartRecord

MOST_CAUSES = 2
LONGEST_CAUSE = 200
"""Greatest number of characters of one cause."""


@dataclass(slots=True)
class PlannedPart:
    """One combiner's part of an attempt or of a validation. `partial`: the answer to its plan, if there is one."""

    key: PlanKey
    combiner: str
    clients: tuple[str, ...]
    voided: bool = False
    partial: Partial | None = None

    @property
    def is_open(self) -> bool:
        """Whether an answer to the plan is still wanted."""
        return not self.voided and self.partial is None

    def is_answered_by(self, partial: Partial, sender: str) -> bool:
        """Returns whether `partial` answers this plan. A redelivered partial counts as the same answer."""
        return not self.voided and self.combiner == sender and self.partial in (None, partial)

    def record(self) -> PlannedPartRecord:
        """Returns the record of this part."""
        return PlannedPartRecord(part=self.key.part, combiner=self.combiner, clients=self.clients, voided=self.voided)


@dataclass(slots=True)
class Attempt:
    """A recorded draw.

    - `created_at`: when it was drawn, UTC seconds since 1970.
    - `due_at`: when the combiners' deadline passes, on the monotonic clock.
    - `completed_by`: deliveries of the partial that completed the attempt. They are acknowledged once the round is recorded.
    """

    number: int
    parts: list[PlannedPart]
    created_at: float
    due_at: float = 0.0
    completed_by: tuple[int, ...] = ()

    def part(self, key: PlanKey) -> PlannedPart | None:
        """Returns the part with this plan key, if there is one."""
        return next((part for part in self.parts if part.key == key), None)

    def take_completed_by(self) -> list[Ack]:
        """Returns the acknowledgement of the completing partial, at most once."""
        tags, self.completed_by = self.completed_by, ()
        return [Ack(tags)] if tags else []

    @property
    def open_parts(self) -> list[PlannedPart]:
        """The parts whose answers are still wanted."""
        return [part for part in self.parts if part.is_open]

    def adopt_partials(self, partials: Iterable[Partial]) -> None:
        """Adopts the answers that an earlier reducer has recorded."""
        for partial in partials:
            part = self.part(partial.plan)
            if part is not None and part.is_open:
                part.partial = partial

    def partials(self) -> tuple[Partial, ...]:
        """Returns the answers that count, in the order of their parts."""
        return tuple(part.partial for part in self.parts if part.partial is not None and not part.voided)

    def accepted(self) -> int:
        """Returns how many updates the partials hold."""
        return sum(partial.counts.get("accepted", 0) for partial in self.partials())

    def causes(self) -> str:
        """Returns why updates are missing: the most frequent reasons, at most MOST_CAUSES. Empty if no reason is known."""
        asked = sum(len(part.clients) for part in self.parts if not part.voided)
        found = (each for partial in self.partials() for each in partial.reasons or _unexplained(partial.counts))
        return "; ".join(
            f"{each.count} of {asked} client{'s' if asked > 1 else ''} {fared(each.outcome, each.count)}"
            + (f": {shortened(each.reason, LONGEST_CAUSE)}" if each.reason else "")
            for each in count_alike(found)[:MOST_CAUSES]
        )


def _unexplained(counts: Mapping[str, int]) -> list[OutcomeReason]:
    """Returns the outcomes in the partial of a combiner that states no reasons."""
    return [
        OutcomeReason(outcome=outcome, reason="", count=count)
        for outcome, count in counts.items()
        if count and outcome != "accepted"
    ]


def validation_key(session: str, number: int, term: int, part: int) -> PlanKey:
    """Returns the key of a plan that validates the model of round `number`.

    A reducer that takes over does not know its predecessor's validation plans. The lease term keeps the two sets apart. It
    is sent in the field `attempt`, which validations have no other use for.
    """
    return PlanKey(session=session, round=number, attempt=max(1, term), part=part, action="validate")


def group_by_combiner(names: Sequence[str], combiner_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the combiners in sorted order, each with its sorted clients."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(combiner_of[name], []).append(name)
    return {combiner: tuple(groups[combiner]) for combiner in sorted(groups)}
