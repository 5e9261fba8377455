"""One session's state: its rounds, the attempt that is open, and how clients are drawn. Pure."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from fedmq.effects import Ack, Effect
from fedmq.errors import ProtocolError
from fedmq_reducer.assignment import Client
from fedmq_reducer.selection import Score
from fedmq_reducer.why import reason_against
from fedmq_schemas.messages import BlobRef, Partial, PlanKey
from fedmq_schemas.policy import Policy


class State(Enum):
    QUEUED = "queued"
    OPENING = "opening"  # its first model is being checked (recorded as running)
    WAITING = "waiting"  # for clients
    DRAWING = "drawing"  # the attempt is being recorded
    RUNNING = "running"  # plans are out
    COMMITTING = "committing"  # the new model is being made and recorded
    SCORING = "scoring"  # whether to go on depends on the new model's validations, which are coming in
    VALIDATING = "validating"  # the last model's validations are coming in
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


_LIVE = frozenset({State.FAILED, State.STOPPED})
TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: _LIVE | {State.OPENING, State.WAITING, State.RUNNING, State.VALIDATING, State.DRAWING},
    State.OPENING: _LIVE | {State.WAITING, State.DRAWING},
    State.WAITING: _LIVE | {State.DRAWING},
    State.DRAWING: _LIVE | {State.RUNNING},
    State.RUNNING: _LIVE | {State.COMMITTING, State.WAITING, State.DRAWING},
    State.COMMITTING: _LIVE | {State.SCORING, State.WAITING, State.DRAWING, State.VALIDATING, State.FINISHED},
    State.SCORING: _LIVE | {State.WAITING, State.DRAWING, State.VALIDATING, State.FINISHED},
    State.VALIDATING: _LIVE | {State.FINISHED},
    State.FINISHED: frozenset(),
    State.FAILED: frozenset(),
    State.STOPPED: frozenset(),
}

_RECORDED = dict.fromkeys((State.OPENING, State.DRAWING, State.COMMITTING, State.SCORING), "running")


@dataclass(slots=True)
class PlannedPart:
    """One plan of the open attempt."""

    key: PlanKey
    combiner: str
    clients: tuple[str, ...]
    voided: bool = False
    partial: Partial | None = None

    @property
    def is_open(self) -> bool:
        return not self.voided and self.partial is None

    def takes(self, partial: Partial, sender: str) -> bool:
        """Whether it is this plan's answer, be it told again."""
        return not self.voided and self.combiner == sender and self.partial in (None, partial)

    def document(self) -> dict[str, Any]:
        return {"part": self.key.part, "combiner": self.combiner, "clients": list(self.clients), "voided": self.voided}


@dataclass(slots=True)
class Attempt:
    """The open attempt. `created_at`: when it was drawn, UTC seconds since 1970. `due_at`: when the combiners' deadline
    passes, on the monotonic clock. `completed_by`: messages with the partial that completed it, which the commit settles."""

    number: int
    parts: list[PlannedPart]
    created_at: float
    due_at: float = 0.0
    completed_by: tuple[int, ...] = ()

    def part(self, key: PlanKey) -> PlannedPart | None:
        return next((part for part in self.parts if part.key == key), None)

    def settled(self) -> list[Effect]:
        """To be asked for when what becomes of the attempt is recorded."""
        tags, self.completed_by = self.completed_by, ()
        return [Ack(tags)] if tags else []

    @property
    def is_answered(self) -> bool:
        return not any(part.is_open for part in self.parts)

    def partials(self) -> tuple[Partial, ...]:
        return tuple(part.partial for part in self.parts if part.partial is not None and not part.voided)

    def accepted(self) -> int:
        return sum(partial.counts.get("accepted", 0) for partial in self.partials())


@dataclass(slots=True)
class Window:
    """The plans that ask for a model's validations; what comes until `closes_at` (UTC seconds since 1970) is waited for."""

    model: BlobRef
    closes_at: float
    parts: list[PlannedPart] = field(default_factory=list)

    @property
    def asked(self) -> set[str]:
        return {client for part in self.parts for client in part.clients}

    def has_asked(self, client: str, combiner: str | None) -> bool:
        return any(part.combiner == combiner and client in part.clients for part in self.parts)


@dataclass(slots=True)
class Session:
    """`round` is the one being made, `model` the last committed one (None until the seed is open), `base` what of it
    does not travel. `stopped`: why it ends with the round that is being committed. `validated`: for each model id, client →
    its validation's document. `windows`: by round, models whose validation has plans of its own. `waiting_until` and
    `started_at`: UTC seconds since 1970, as recorded, so that they hold whoever is the reducer.
    `score`: where it stands by its metric, if that decides whether it goes on. `early`: why it ends before all rounds are
    made. `verdict`: how it is to end, and why. `recorded`: what this reducer has last written of where it stands."""

    name: str
    policy: Policy
    position: int
    random_seed: int
    state: State = State.QUEUED
    round: int = 1
    model: BlobRef | None = None
    base: BlobRef | None = None
    optimizer: BlobRef | None = None
    exponents: tuple[int, ...] = ()
    attempt: Attempt | None = None
    attempts: int = 0
    stop_after_round: bool = False
    stopped: str = ""
    waiting: str = ""
    waiting_until: float | None = None
    started_at: float | None = None
    began_at: float = 0.0
    validated: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)
    score: Score | None = None
    early: str = ""
    verdict: tuple[State, str] | None = None
    recorded: dict[str, Any] | None = None

    @classmethod
    def remembered(cls, document: Mapping[str, Any]) -> Session:
        """What its record says. Raises ValidationError for a policy that this version does not read."""
        base, score = document["base"], document["score"]
        return cls(
            document["session"],
            Policy.model_validate(document["policy"]),
            document["position"],
            document["random_seed"],
            base=BlobRef.model_validate(base) if base is not None else None,
            stop_after_round=document["stop_after_round"],
            waiting_until=document["waiting_until"],
            started_at=document["started_at"],
            score=Score(**score) if score is not None else None,
        )

    def move(self, state: State) -> None:
        """Raises ProtocolError, and changes nothing, if the table has no such step."""
        if state is not self.state and state not in TRANSITIONS[self.state]:
            raise ProtocolError(f"session {self.name} can't go from {self.state.value} to {state.value}")
        self.state = state

    @property
    def recorded_state(self) -> str:
        return _RECORDED.get(self.state, self.state.value)

    @property
    def is_drawing(self) -> bool:
        return self.state is State.DRAWING

    @property
    def is_scored(self) -> bool:
        """Whether the newest model's score is recorded, or does not matter."""
        known = self.score.round if self.score is not None else 0
        return known >= self.round - 1 or not self.policy.stop.needs_scores

    @property
    def was_scored_by_clients(self) -> bool:
        """Whether those who are about to train on the newest model have validated it already."""
        return (
            self.score is not None and self.score.round == self.round - 1 and not self.score.metric.startswith("test/")
        )

    @property
    def is_last(self) -> bool:
        """Whether no round follows the newest model."""
        return bool(self.early) or self.round > self.policy.rounds

    def chosen(self, clients: Iterable[Client]) -> list[Client]:
        """Those whom the policy lets take part. Labels are asked of those who train: an evaluator has everybody's data."""
        return [client for client in clients if not self.why_not(client)]

    def why_not(self, client: Client) -> str:
        return reason_against(self.policy, client.name, client.labels, client.package, "train" in client.tasks)

    def draw(self, eligible: Sequence[Client]) -> list[str]:
        """The clients of this attempt, sorted. Depends on session, round, attempt and the names, and so not on combiners."""
        wanted = math.ceil(self.policy.clients.fraction * len(eligible))
        if self.policy.clients_requested is not None:
            wanted = min(wanted, self.policy.clients_requested)
        wanted = min(len(eligible), max(wanted, self.policy.clients_required))
        names = sorted(client.name for client in eligible)
        if wanted == len(names):
            return names
        source = random.Random(f"{self.random_seed}/{self.round}/{self.attempts}")
        return sorted(source.sample(names, wanted))


def random_seed_of(policy: Policy, session: str) -> int:
    if policy.random_seed is not None:
        return policy.random_seed
    return int.from_bytes(hashlib.sha256(session.encode()).digest()[:6], "big")


def model_id(model: BlobRef) -> str:
    return model.key.partition("/")[2]


def group_by_combiner(names: Sequence[str], combiner_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Sorted combiners, each with its sorted clients."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(combiner_of[name], []).append(name)
    return {combiner: tuple(groups[combiner]) for combiner in sorted(groups)}
