"""Records of events, and the names of all events."""

from __future__ import annotations

from typing import Any

from fedmq_schemas.messages import Envelope, Event, ToldEvent
from fedmq_schemas.records.base import Record
from fedmq_schemas.records.tables import EVENTS

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
    "client.joined": "a combiner received a first message from a client",
    "client.vanished": "a client sent no message for three presence periods, or left",
    "combiner.joined": "a combiner said hello",
    "combiner.vanished": "a combiner sent no message for three presence periods, or left",
    "plan.voided": "a vanished or late combiner's plan was superseded",
    "reducer.active": "a reducer took the lease; data.epoch",
    "message.refused": "an undecodable, unknown or misplaced message; data.reason",
    "actor.error": "a fault of our own; data.reason, data.traceback",
}


class EventRecord(Record):
    """An event. `at`: when the sender published it, by its own clock."""

    table = EVENTS

    id: str
    name: str
    session: str | None
    round: int | None
    client: str | None
    combiner: str | None
    at: float
    sender: str
    cause: str | None
    data: dict[str, Any]

    @property
    def key(self) -> str:
        return self.id


def event_document(envelope: Envelope, event: Event) -> dict[str, Any]:
    """Returns the document of an event. The envelope and the event are valid, so nothing is checked."""
    # A round of a thousand clients has thousands of events: to make an EventRecord of each takes four times as long.
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
