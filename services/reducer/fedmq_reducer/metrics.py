"""The families of metrics that a reducer serves beside those of every process, and those of its REST API."""

from __future__ import annotations

from fedmq.web.families import UNSETTLED, Family

ACTIVE = Family("fedmq_reducer_active", "gauge", "1 at the reducer that holds the lease, else 0.")
EPOCH = Family("fedmq_reducer_epoch", "gauge", "Term of the newest lease that this reducer has held.")
LEASE_RENEWED = Family(
    "fedmq_reducer_lease_renewed_timestamp_seconds",
    "gauge",
    "When the records confirmed the lease of this reducer last, in UTC seconds since 1970; 0 if never.",
)
FAMILIES = (ACTIVE, EPOCH, LEASE_RENEWED, UNSETTLED)

SESSIONS = Family("fedmq_sessions", "gauge", "Sessions of the alliance.", ("state",))
CLIENTS = Family("fedmq_clients", "gauge", "Clients that the alliance knows: present or away.", ("state",))
COMBINERS = Family("fedmq_combiners", "gauge", "Combiners that the alliance knows: present or away.", ("state",))
ROUNDS = Family("fedmq_rounds", "gauge", "Committed rounds in the records.")
ROUND_STARTED = Family(
    "fedmq_round_started_timestamp_seconds",
    "gauge",
    "When the newest attempt at the open round began, in UTC seconds since 1970.",
    ("session",),
)
ROUND_DEADLINE = Family(
    "fedmq_round_deadline_timestamp_seconds",
    "gauge",
    "Deadline of the open round, in UTC seconds since 1970.",
    ("session",),
)
ROUND_ASKED = Family("fedmq_round_clients", "gauge", "Clients that the open round has asked.", ("session",))
ROUND_WAITING = Family(
    "fedmq_round_waiting_clients", "gauge", "Clients whose answer the open round waits for.", ("session",)
)
DEAD_LETTERS = Family(
    "fedmq_dead_letters",
    "gauge",
    "Messages that could not be decoded or handled. Missing while the reducer cannot measure queues.",
)
UPDATES = Family("fedmq_updates_total", "counter", "Updates observed since this server started.", ("outcome",))
OBSERVED_EVENTS = Family(
    "fedmq_observed_events_total", "counter", "Events observed since this server started.", ("event",)
)
ROUND_SECONDS = Family(
    "fedmq_round_seconds",
    "histogram",
    "Seconds from the first plan of a round to its commit, since this server started.",
)
ALLIANCE = (
    SESSIONS,
    CLIENTS,
    COMBINERS,
    ROUNDS,
    ROUND_STARTED,
    ROUND_DEADLINE,
    ROUND_ASKED,
    ROUND_WAITING,
    DEAD_LETTERS,
    UPDATES,
    OBSERVED_EVENTS,
    ROUND_SECONDS,
)
