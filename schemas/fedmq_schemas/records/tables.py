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
WINDOWS = "windows"
CLIENTS = "clients"
COMBINERS = "combiners"
EVENTS = "events"
SYSTEM = "system"

TABLES: dict[str, str] = {
    SESSIONS: "key: session. session, state, waiting, waiting_until, reason, policy, seed, random_seed, position, "
    "created_at; once ended: ended_at, round and model (the last committed), announced (the end was published)",
    ATTEMPTS: "key: session/round/attempt. The draw of one attempt: its plans with combiner, clients, voided",
    PARTIALS: "key: plan. The partial of one plan: the references of its sum and ledger",
    ROUNDS: "key: session/round. A committed round: model, parent, ledger, optimizer, exponents, counts, bytes, metrics",
    PARTICIPATION: "key: session/round/attempt. The ledger of an aggregated attempt in columns: see Participation",
    MODELS: "key: model id. Its blob, base (the tensors that are not shared), parent, session, round (0: a seed); metrics, "
    "from the session that made it; kept (its bytes are to be kept), deleted (they are deleted, as it is not kept)",
    VALIDATIONS: "key: session/model/client. Metrics of one model at one client or evaluator, in one session",
    SUMMARIES: "key: session/model. Metrics of the model that a session started from, in this session",
    WINDOWS: "key: session/round. Whom a session has requested to validate a round's model, when, and until when; whose "
    "absence was reported",
    CLIENTS: "key: client. Labels, tasks, announced weight, ordinal, combiner, state, last_seen",
    COMBINERS: "key: combiner. State, clients, last_seen; stalls (what it waits for), if there are any",
    EVENTS: "key: event id. name, session, round, client, combiner, at, sender, cause, data",
    SYSTEM: "key: what (queues, stores, sessions or stalls). The reducer's latest measurement, taken at `at`; reason: why "
    "it failed; waits: where each open session waits",
}

# The fields of each index, in order. A query that fixes the first field and orders by the last needs no sorting.
INDEXES: dict[str, tuple[tuple[str, ...], ...]] = {
    SESSIONS: (("state",), ("position",), ("created_at",)),
    ATTEMPTS: (("session",), ("created_at",)),
    PARTIALS: (("session",),),
    ROUNDS: (("session", "round"),),
    PARTICIPATION: (("session", "round"),),
    MODELS: (("session", "round"), ("created_at",), ("deleted",)),
    VALIDATIONS: (("session",), ("model",), ("client", "at")),
    SUMMARIES: (("session",), ("model", "at")),
    WINDOWS: (("session", "round"),),
    CLIENTS: (("combiner",),),
    COMBINERS: (),
    EVENTS: (("at",), ("session", "at"), ("name", "at"), ("client", "at")),
    SYSTEM: (),
}

SessionState = Literal["queued", "waiting", "running", "validating", "finished", "failed", "stopped"]
ENDED: tuple[SessionState, ...] = ("finished", "failed", "stopped")
