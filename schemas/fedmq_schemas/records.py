"""What the record store holds, and the ledger blob: names and shapes that readers may rely on.

Times are UTC seconds since 1970. Only reducers write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from fedmq_schemas.messages import BlobRef, Envelope, Event, Metrics, Model, PlanKey, ToldEvent

SESSIONS = "sessions"
ATTEMPTS = "attempts"
PARTIALS = "partials"
ROUNDS = "rounds"
PARTICIPATION = "participation"
MODELS = "models"
VALIDATIONS = "validations"
CLIENTS = "clients"
COMBINERS = "combiners"
EVENTS = "events"
SYSTEM = "system"

TABLES: dict[str, str] = {
    SESSIONS: "key: session. session, state, waiting, waiting_until, reason, policy, seed, random_seed, position, "
    "created_at; when it has ended ended_at, round and model (the last committed), announced (its end was told)",
    ATTEMPTS: "key: session/round/attempt. The draw of one attempt: its plans with combiner, clients, voided or not",
    PARTIALS: "key: plan. The references of each combiner's answer",
    ROUNDS: "key: session/round. The commit point: model, parent, ledger, optimizer state, scales, counts, bytes, metrics",
    PARTICIPATION: "key: session/round/attempt. An aggregated attempt's ledger in columns, for readers: see Participation",
    MODELS: "key: model id. Its blob, base (tensors that don't travel), parent, session, round (0: a seed), metrics; "
    "kept: whether its bytes stay; those of one that was let go are deleted: not yet (false), or done",
    VALIDATIONS: "key: model/client. Metrics of one model at one client or evaluator",
    CLIENTS: "key: client. Labels, tasks, announced weight, ordinal, combiner, state, last_seen",
    COMBINERS: "key: combiner. State, clients, last_seen",
    EVENTS: "key: event id. name, session, round, client, combiner, at, sender, cause, data",
    SYSTEM: "key: what, queues or stores. What a reducer saw when it last looked, at `at`; reason: why it could not",
}

# The fields of each index, in their order: a query that fixes the first and sorts by the last needs no sort.
INDEXES: dict[str, tuple[tuple[str, ...], ...]] = {
    SESSIONS: (("state",), ("position",), ("created_at",)),
    ATTEMPTS: (("session",), ("created_at",)),
    PARTIALS: (("session",),),
    ROUNDS: (("session", "round"),),
    PARTICIPATION: (("session", "round"),),
    MODELS: (("session", "round"), ("created_at",), ("deleted",)),
    VALIDATIONS: (("session",), ("model",), ("client", "at")),
    CLIENTS: (("combiner",),),
    COMBINERS: (),
    EVENTS: (("at",), ("session", "at"), ("name", "at"), ("client", "at")),
    SYSTEM: (),
}

SessionState = Literal["queued", "waiting", "running", "validating", "finished", "failed", "stopped"]
ENDED: tuple[SessionState, ...] = ("finished", "failed", "stopped")

Outcome = Literal["accepted", "rejected", "discarded", "abstained", "failed", "absent"]
OUTCOMES: tuple[Outcome, ...] = ("accepted", "rejected", "discarded", "abstained", "failed", "absent")

EVENT_NAMES: dict[str, str] = {
    "session.queued": "a start message became a session",
    "session.refused": "a start message was refused; data.reason, data.sender",
    "session.started": "its first round is being planned",
    "session.waiting": "it waits; data.reason says for what, data.waiting_until (UTC seconds since 1970) until when",
    "session.finished": "all rounds are committed and the last model's validations are in",
    "session.failed": "it ended without its rounds; data.reason",
    "session.stopped": "somebody stopped it",
    "round.planned": "clients are drawn and plans sent; data.clients, data.combiners, data.attempt, data.timeout",
    "round.committed": "a new model; data.model, data.seconds, data.counts, data.metrics",
    "round.retried": "the attempt missed its minimum; data.reason",
    "update.accepted": "folded; data.weight, data.norm, data.seconds, data.metrics",
    "update.rejected": "an invalid update; data.reason",
    "update.discarded": "a late, repeated or superseded update; data.reason",
    "update.abstained": "the trainer had nothing to give; data.reason",
    "update.failed": "the trainer failed; data.reason, data.traceback",
    "update.absent": "no answer by the deadline",
    "task.progress": "a client's own report while it trains; data.fraction, data.metrics",
    "model.validated": "one client's validation; data.model, data.scope, data.metrics, data.weight",
    "client.attached": "a client was granted a combiner",
    "client.joined": "a combiner hears a client",
    "client.vanished": "a client was not heard for three presence periods, or left",
    "combiner.joined": "a combiner said hello",
    "combiner.vanished": "a combiner was not heard for three presence periods, or left",
    "plan.voided": "a vanished or late combiner's plan was superseded",
    "reducer.active": "a reducer took the lease; data.epoch",
    "message.refused": "an undecodable, unknown or misplaced message; data.reason",
    "actor.error": "a fault of our own; data.reason, data.traceback",
}


def event_document(envelope: Envelope, event: Event) -> dict[str, Any]:
    """The record of an event."""
    own = event if isinstance(event, ToldEvent) else envelope
    return {
        "id": own.id,
        "name": event.name,
        "session": event.session,
        "round": event.round,
        "client": event.client,
        "combiner": event.combiner,
        "at": envelope.sent_at,
        "sender": envelope.sender,
        "cause": own.cause,
        "data": event.data,
    }


def is_kept(model: Mapping[str, Any]) -> bool:
    """Whether a model's bytes are to be there, by its record."""
    return model.get("kept", True) is True


class LedgerEntry(Model):
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
    """How many entries have each outcome; all outcomes are named."""
    counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
    for entry in entries:
        counts[entry.outcome] += 1
    return {str(outcome): count for outcome, count in counts.items()}


class Participation(Model):
    """What became of each task of an attempt, one column a field, sorted by client. `seconds`: a column a step, None
    where a client did not say. `reasons`: of those that were not accepted."""

    session: str
    round: int
    attempt: int
    clients: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    weights: tuple[int, ...]
    norms: tuple[float | None, ...]
    at: tuple[float | None, ...]
    seconds: dict[str, tuple[float | None, ...]]
    reasons: dict[str, str]


class Ledger(Model):
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
