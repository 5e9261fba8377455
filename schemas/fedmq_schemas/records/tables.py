"""The tables of the record store, their keys and indexes, and the states of a session."""

from __future__ import annotations

from typing import Literal

SESSIONS = "sessions"
ATTEMPTS = "attempts"
PARTIALS = "partials"
ROUNDS = "rounds"
PARTICIPATION = "participation"
MODELS = "models"
VALIDATIONS = "validations"
SUMMARIES = "summaries"
CLIENTS = "clients"
COMBINERS = "combiners"
EVENTS = "events"
SYSTEM = "system"

TABLES: dict[str, str] = {
    SESSIONS: "key: session. session, state, waiting, waiting_until, reason, policy, seed, random_seed, position, "
    "created_at; when it has ended ended_at, round and model (the last committed), announced: its end was published",
    ATTEMPTS: "key: session/round/attempt. The draw of one attempt: its plans with combiner, clients, voided or not",
    PARTIALS: "key: plan. The references of each combiner's answer",
    ROUNDS: "key: session/round. The commit point: model, parent, ledger, optimizer state, scales, counts, bytes, metrics",
    PARTICIPATION: "key: session/round/attempt. An aggregated attempt's ledger in columns, for readers: see Participation",
    MODELS: "key: model id. Its blob, base (tensors that don't travel), parent, session, round (0: a seed), metrics, as "
    "recorded by the session that made it; kept: whether its bytes stay; deleted: whether the bytes of an expired model are "
    "deleted",
    VALIDATIONS: "key: session/model/client. Metrics of one model at one client or evaluator, as a session found them",
    SUMMARIES: "key: session/model. Metrics of the model that a session started from, as this session found them",
    CLIENTS: "key: client. Labels, tasks, announced weight, ordinal, combiner, state, last_seen",
    COMBINERS: "key: combiner. State, clients, last_seen",
    EVENTS: "key: event id. name, session, round, client, combiner, at, sender, cause, data",
    SYSTEM: "key: what, queues, stores or sessions. What a reducer saw when it last looked, at `at`; reason: why it could "
    "not; waits: where the course of each session under way stands",
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
    SUMMARIES: (("session",), ("model", "at")),
    CLIENTS: (("combiner",),),
    COMBINERS: (),
    EVENTS: (("at",), ("session", "at"), ("name", "at"), ("client", "at")),
    SYSTEM: (),
}

SessionState = Literal["queued", "waiting", "running", "validating", "finished", "failed", "stopped"]
ENDED: tuple[SessionState, ...] = ("finished", "failed", "stopped")
