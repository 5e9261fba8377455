"""A session as data: what its routine keeps for others to see, grouped by who reads it. Pure."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from fedmq.runtime.effects import Ack, Effect, Received
from fedmq_reducer.eligibility import reason_against
from fedmq_reducer.membership import ClientMember
from fedmq_reducer.sessions.attempt import Attempt, PlannedPart
from fedmq_schemas.keys import model_id
from fedmq_schemas.messages import BlobRef, Partial, PlanKey
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import (
    AttemptRecord,
    RoundRecord,
    Score,
    SessionChange,
    SessionRecord,
    SessionState,
    ValidationRecord,
)


class Stage(Enum):
    """How far the course of a session has come: a label that its routine sets for those who look at it from outside."""

    QUEUED = "queued"
    OPENING = "opening"  # its first model is being checked
    WAITING = "waiting"  # for clients
    DRAWING = "drawing"  # the attempt is being recorded
    RUNNING = "running"  # plans are out
    COMMITTING = "committing"  # the new model is being made and recorded
    SCORING = "scoring"  # whether a round follows depends on the new model's validations, which are coming in
    VALIDATING = "validating"  # the last model's validations are coming in
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def recorded(self) -> SessionState:
        """The state that the session's record names."""
        return _RECORDED[self]


_RECORDED: dict[Stage, SessionState] = {
    Stage.QUEUED: "queued",
    Stage.OPENING: "running",
    Stage.WAITING: "waiting",
    Stage.DRAWING: "running",
    Stage.RUNNING: "running",
    Stage.COMMITTING: "running",
    Stage.SCORING: "running",
    Stage.VALIDATING: "validating",
    Stage.FINISHED: "finished",
    Stage.FAILED: "failed",
    Stage.STOPPED: "stopped",
}


@dataclass(slots=True)
class Lineage:
    """What the next round starts from: the newest committed model (None until the seed is open), `base`, those of its
    tensors that do not travel, the server optimizer's state after it, and the exponents of the next round's sums."""

    model: BlobRef | None = None
    base: BlobRef | None = None
    optimizer: BlobRef | None = None
    exponents: tuple[int, ...] = ()


@dataclass(slots=True)
class Ending:
    """Whether the session ends before all its rounds are made. `started_at`: UTC seconds since 1970, as recorded.
    `score`: where it stands by its metric, if the policy stops by a metric. `finished_by`: why no further round is made.
    `after_round`: somebody asked that the open round be the last. `stopped`: why it ends with the round that is being
    committed, or as soon as it is recorded; `stops`: the deliveries that asked for the latter."""

    started_at: float | None = None
    score: Score | None = None
    finished_by: str = ""
    after_round: bool = False
    stopped: str = ""
    stops: list[int] = field(default_factory=list)

    def take_stops(self) -> list[Ack]:
        """Returns the acknowledgement of the stops that waited, at most once."""
        tags, self.stops = tuple(self.stops), []
        return [Ack(tags)] if tags else []


@dataclass(slots=True)
class Standing:
    """What the session's record says of where it stands. `waiting`: for what. `waiting_until`: UTC seconds since 1970, so
    that the deadline holds whoever is the reducer. `recorded`: the change that this reducer has last recorded."""

    waiting: str = ""
    waiting_until: float | None = None
    recorded: SessionChange | None = None


@dataclass(slots=True)
class Window:
    """The plans that ask for a model's validations; those that arrive until `closes_at` (UTC seconds since 1970) are waited
    for."""

    model: BlobRef
    closes_at: float
    parts: list[PlannedPart] = field(default_factory=list)

    @property
    def asked(self) -> set[str]:
        return {client for part in self.parts for client in part.clients}

    def has_asked(self, client: str, combiner: str | None) -> bool:
        return any(part.combiner == combiner and client in part.clients for part in self.parts)


@dataclass(slots=True)
class Validations:
    """`windows`: by round, the models whose validation has plans of its own. `results`: model id → client → its
    validation."""

    windows: dict[int, Window] = field(default_factory=dict)
    results: dict[str, dict[str, ValidationRecord]] = field(default_factory=dict)

    def of(self, model: BlobRef) -> Mapping[str, ValidationRecord]:
        return self.results.get(model_id(model.key), {})


@dataclass(slots=True)
class Session:
    """`round` is the one being made. `attempts` counts its attempts, `attempt` is the open one, once it is recorded.
    `early`: partials of the attempt that is being recorded, and their deliveries.
    `began_at`: when the round's first attempt was drawn, on the monotonic clock. `deferred`: effects that only readers
    need; they follow the next draw, or precede whatever else comes."""

    name: str
    policy: Policy
    position: int
    random_seed: int
    stage: Stage = Stage.QUEUED
    round: int = 1
    attempts: int = 0
    attempt: Attempt | None = None
    early: list[tuple[Partial, Received]] = field(default_factory=list)
    began_at: float = 0.0
    lineage: Lineage = field(default_factory=Lineage)
    ending: Ending = field(default_factory=Ending)
    standing: Standing = field(default_factory=Standing)
    validations: Validations = field(default_factory=Validations)
    deferred: list[Effect] = field(default_factory=list)

    @classmethod
    def restored(cls, record: SessionRecord) -> Session:
        """Returns the session of a record. Raises ValidationError for a policy that this version does not read."""
        return cls(
            record.session,
            Policy.model_validate(record.policy),
            record.position,
            record.random_seed,
            lineage=Lineage(base=record.base),
            ending=Ending(record.started_at, record.score, after_round=record.stop_after_round),
            standing=Standing(waiting_until=record.waiting_until),
        )

    @property
    def model(self) -> BlobRef:
        """The newest committed model. Raises RuntimeError before the seed is open."""
        if self.lineage.model is None:
            raise RuntimeError(f"session {self.name} has no model yet")
        return self.lineage.model

    def adopt_attempt(self, record: AttemptRecord) -> Attempt:
        """Opens a recorded attempt, whoever has drawn it."""
        self.attempts = record.attempt
        parts = [
            PlannedPart(self.plan_key(plan.part), plan.combiner, plan.clients, plan.voided) for plan in record.plans
        ]
        self.attempt = Attempt(record.attempt, parts, record.created_at)
        lineage = self.lineage
        lineage.model, lineage.optimizer, lineage.exponents = record.model, record.optimizer, record.exponents
        return self.attempt

    def adopt_round(self, record: RoundRecord) -> None:
        """Goes on to the round after a recorded one."""
        lineage = self.lineage
        lineage.model, lineage.optimizer, lineage.exponents = record.model, record.optimizer, record.exponents
        self.round = record.round + 1
        self.attempt, self.attempts = None, 0

    def new_parts(self, groups: Mapping[str, tuple[str, ...]], first: int = 0) -> list[PlannedPart]:
        """Returns a part for each combiner with its clients, numbered from `first`."""
        return [
            PlannedPart(self.plan_key(number), combiner, clients)
            for number, (combiner, clients) in enumerate(groups.items(), first)
        ]

    def plan_key(self, part: int) -> PlanKey:
        return PlanKey(session=self.name, round=self.round, attempt=self.attempts, part=part)

    def is_recording_attempt_of(self, plan: PlanKey) -> bool:
        """Whether the draw of this plan's attempt is being recorded."""
        of_attempt = (plan.round, plan.attempt, plan.action)
        return self.stage is Stage.DRAWING and of_attempt == (self.round, self.attempts, "train")

    def take_early(self) -> list[tuple[Partial, Received]]:
        taken, self.early = self.early, []
        return taken

    def take_deferred(self) -> list[Effect]:
        taken, self.deferred = self.deferred, []
        return taken

    @property
    def is_scored(self) -> bool:
        """Whether the newest model's score is recorded, or does not matter."""
        known = self.ending.score.round if self.ending.score is not None else 0
        return known >= self.round - 1 or not self.policy.stop.needs_scores

    @property
    def was_scored_by_clients(self) -> bool:
        """Whether the clients that are about to train on the newest model have validated it already."""
        score = self.ending.score
        return score is not None and score.round == self.round - 1 and not score.metric.startswith("test/")

    @property
    def is_last(self) -> bool:
        """Whether no round follows the newest model."""
        return bool(self.ending.finished_by) or self.round > self.policy.rounds

    def chosen(self, clients: Iterable[ClientMember]) -> list[ClientMember]:
        """Returns the clients that the policy lets take part. Labels are checked for those that train: an evaluator has
        everybody's data."""
        return [
            client
            for client in clients
            if not reason_against(self.policy, client.name, client.labels, client.package, "train" in client.tasks)
        ]

    def draw(self, eligible: Sequence[ClientMember]) -> list[str]:
        """Returns the sorted clients of this attempt. The draw depends on session, round, attempt and names alone, and so
        not on combiners."""
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
    """Returns the policy's random seed, or one that derives from the session's id."""
    if policy.random_seed is not None:
        return policy.random_seed
    return int.from_bytes(hashlib.sha256(session.encode()).digest()[:6], "big")
