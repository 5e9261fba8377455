"""A session as data: what its routine and the reactions to messages read and write. Pure."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from fedmq.runtime.effects import Ack, Effect, Received
from fedmq_reducer.members.client_member import ClientMember
from fedmq_reducer.members.eligibility import ineligible_because
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
    ValidationRequest,
    requested_of,
)


class Stage(Enum):
    """How far the course of a session has come. Its routine sets this label for reactions and records."""

    QUEUED = "queued"
    OPENING = "opening"  # its first model is being checked
    WAITING = "waiting"  # for clients
    DRAWING = "drawing"  # the attempt is being recorded
    RUNNING = "running"  # plans are open
    COMMITTING = "committing"  # the new model is being made and recorded
    SCORING = "scoring"  # waits for validations of the new model, which decide whether a round follows
    VALIDATING = "validating"  # waits for validations of the last model
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def recorded(self) -> SessionState:
        """The state in the session's record."""
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


KNOWN_DRAWS = 3
"""The number of newest rounds whose drawn clients are kept in memory."""


@dataclass(slots=True)
class Lineage:
    """The start of the next round.

    - `model`: the newest committed one; None until the seed is open.
    - `base`: those of the model's tensors that are not sent with it.
    - `optimizer`: the server optimizer's state after the newest model.
    - `exponents`: the scales of the next round's sums.
    """

    model: BlobRef | None = None
    base: BlobRef | None = None
    optimizer: BlobRef | None = None
    exponents: tuple[int, ...] = ()


@dataclass(slots=True)
class Ending:
    """Whether the session ends before its last round.

    - `started_at`: UTC seconds since 1970, as recorded.
    - `score`: the newest and the best value of its metric, if the policy stops by a metric.
    - `finished_by`: why no further round is made.
    - `after_round`: a stop message asks that the open round be the last.
    - `stopped`: why it ends after the round that is being committed, or as soon as it is recorded.
    - `stops`: the deliveries of stop messages for a session that is being recorded.
    """

    started_at: float | None = None
    score: Score | None = None
    finished_by: str = ""
    after_round: bool = False
    stopped: str = ""
    stops: list[int] = field(default_factory=list)

    def take_stops(self) -> list[Ack]:
        """Returns the acknowledgement of `stops`, at most once."""
        tags, self.stops = tuple(self.stops), []
        return [Ack(tags)] if tags else []


@dataclass(slots=True)
class Standing:
    """What the session's record says about its state.

    - `waiting`: what the session waits for.
    - `waiting_until`: the deadline, UTC seconds since 1970, so that it holds for each reducer.
    - `recorded`: the change that this reducer has recorded last.
    """

    waiting: str = ""
    waiting_until: float | None = None
    recorded: SessionChange | None = None


@dataclass(slots=True)
class Window:
    """The requests to validate a model. The session waits for answers until `closes_at` (UTC seconds since 1970).

    - `parts`: the plans of this reducer.
    - `places`: where in its code each client's trainer was shortly before its deadline, of the clients that reported it.
    - `requests`: all plans, also those of earlier reducers, as they are recorded.
    - `absent`: the clients whose absence was reported.
    """

    model: BlobRef
    closes_at: float
    parts: list[PlannedPart] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    requests: list[ValidationRequest] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    @property
    def planned(self) -> set[str]:
        """The clients that have a plan of this reducer."""
        return {client for part in self.parts for client in part.clients}

    @property
    def requested(self) -> dict[str, tuple[str, float]]:
        """For each client that was requested: the combiner of its last request, and the UTC seconds of its first one."""
        return requested_of(self.requests)

    def has_plan(self, client: str, combiner: str | None) -> bool:
        """Returns whether the client has a plan at this combiner."""
        return any(part.combiner == combiner and client in part.clients for part in self.parts)


@dataclass(slots=True)
class Validations:
    """The session's validations. `windows`: plans by round of the model; `results`: model id → client → validation."""

    windows: dict[int, Window] = field(default_factory=dict)
    results: dict[str, dict[str, ValidationRecord]] = field(default_factory=dict)

    def of(self, model: BlobRef) -> Mapping[str, ValidationRecord]:
        """Returns the validations of a model by client."""
        return self.results.get(model_id(model.key), {})


@dataclass(slots=True)
class Session:
    """A session that has not ended.

    - `round`: the one that is being made.
    - `attempts`: the number of attempts at this round.
    - `attempt`: the open attempt, once it is recorded.
    - `early`: partials of an attempt that is being recorded, with their deliveries.
    - `began_at`: when the round's first attempt was drawn, on the monotonic clock.
    - `resumed_at`: when this reducer resumed the round, on the same clock; None if it has drawn the first attempt itself.
    - `deferred`: effects that only readers need. They follow the next draw, or precede any other next step.
    - `first_model`: the blob key of the model that the session started from, once a round is drawn.
    - `drawn`: the clients of all attempts at a round, for the newest KNOWN_DRAWS rounds that this reducer knows.
    """

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
    resumed_at: float | None = None
    lineage: Lineage = field(default_factory=Lineage)
    ending: Ending = field(default_factory=Ending)
    standing: Standing = field(default_factory=Standing)
    validations: Validations = field(default_factory=Validations)
    deferred: list[Effect] = field(default_factory=list)
    first_model: str = ""
    drawn: dict[int, set[str]] = field(default_factory=dict)

    @classmethod
    def restored(cls, record: SessionRecord) -> Session:
        """Returns the session of a record. Raises ValidationError for a policy that this version can't read."""
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
        """Opens a recorded attempt, which this reducer or an earlier one has drawn."""
        self.attempts = record.attempt
        self.note_draw(record)
        parts = [
            PlannedPart(self._plan_key(plan.part), plan.combiner, plan.clients, plan.voided) for plan in record.plans
        ]
        self.attempt = Attempt(record.attempt, parts, record.created_at)
        lineage = self.lineage
        lineage.model, lineage.optimizer, lineage.exponents = record.model, record.optimizer, record.exponents
        return self.attempt

    def note_draw(self, record: AttemptRecord) -> None:
        """Notes the clients that have a task in an attempt."""
        self.first_model = self.first_model or record.model.key
        clients = self.drawn.setdefault(record.round, set())
        clients.update(client for plan in record.plans for client in plan.clients)
        for older in [number for number in self.drawn if number <= record.round - KNOWN_DRAWS]:
            del self.drawn[older]

    def adopt_round(self, record: RoundRecord) -> None:
        """Begins the round after a recorded one."""
        self.first_model = self.first_model or record.parent.key
        lineage = self.lineage
        lineage.model, lineage.optimizer, lineage.exponents = record.model, record.optimizer, record.exponents
        self.round = record.round + 1
        self.attempt, self.attempts = None, 0

    def new_parts(self, groups: Mapping[str, tuple[str, ...]], first: int = 0) -> list[PlannedPart]:
        """Returns a part for each combiner with its clients, numbered from `first`."""
        return [
            PlannedPart(self._plan_key(number), combiner, clients)
            for number, (combiner, clients) in enumerate(groups.items(), first)
        ]

    def _plan_key(self, part: int) -> PlanKey:
        return PlanKey(session=self.name, round=self.round, attempt=self.attempts, part=part)

    def is_recording_attempt_of(self, plan: PlanKey) -> bool:
        """Returns whether the draw of this plan's attempt is being recorded."""
        of_attempt = (plan.round, plan.attempt, plan.action)
        return self.stage is Stage.DRAWING and of_attempt == (self.round, self.attempts, "train")

    def take_early(self) -> list[tuple[Partial, Received]]:
        """Returns the early partials, at most once."""
        taken, self.early = self.early, []
        return taken

    def take_deferred(self) -> list[Effect]:
        """Returns the deferred effects, at most once."""
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
        """Returns the clients that the policy lets take part.

        Labels are checked only for clients that train: an evaluator has everybody's data.
        """
        return [
            client
            for client in clients
            if not ineligible_because(self.policy, client.name, client.labels, client.package, "train" in client.tasks)
        ]

    def draw(self, eligible: Sequence[ClientMember]) -> list[str]:
        """Returns the attempt's clients, sorted, drawn by nothing but random seed, round, attempt and names."""
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
