"""Records of events, and the names of all events."""

from __future__ import annotations

from typing import Any

from fedmq_schemas.keys import event_id
from fedmq_schemas.messages import BatchedEvent, Envelope, Event
from fedmq_schemas.records.base import Record
from fedmq_schemas.records.tables import EVENTS
from fedmq_schemas.topology import CLIENT_EVENTS

EVENT_NAMES: dict[str, str] = {
    "session.queued": "a start message was accepted; the session is queued; data.policy, data.position (its place, from 0)",
    "session.refused": "a start message was refused; data.reason, data.sender",
    "session.started": "the session started; its first round is being planned; data.seed (a model), data.rounds",
    "session.waiting": "the session waits; data.reason, data.waiting_until (deadline, UTC seconds since 1970)",
    "session.finished": "all rounds are committed and the last model is validated, or it ended early by its policy; "
    "data.reason, data.model (the last one)",
    "session.failed": "the session ended before its last round; data.reason, data.model",
    "session.stopped": "the session was stopped on request; data.reason, data.model",
    "round.planned": "clients were drawn and plans were sent; data.clients, data.combiners, data.attempt, data.timeout",
    "round.committed": "a new model was committed; data.model, data.sha256, data.attempt, data.seconds, data.resumed_after, "
    "data.counts (of outcomes), data.metrics, data.total_weight",
    "round.retried": "an attempt had too few updates; data.reason, data.attempt",
    "update.accepted": "an update was folded; data.weight, data.norm, data.seconds, data.metrics, data.notes, data.personal",
    "update.rejected": "an invalid update was rejected; data.reason, and data.weight, data.norm, data.metrics, "
    "data.seconds, data.notes, data.personal of the update, where they are known",
    "update.discarded": "a late, repeated or superseded update was discarded; data.reason",
    "update.abstained": "a trainer returned nothing or used no examples; data.reason",
    "update.failed": "a trainer failed; data.reason, data.traceback",
    "update.absent": "a client did not answer by the deadline; data.reason, if it reported where its trainer was",
    "task.progress": "a client reported its progress; data.fraction, data.metrics",
    "model.validated": "a client validated a model; data.model, data.scope, data.metrics, data.weight, "
    "data.notes, and of a failed validation data.reason, data.traceback",
    "validation.absent": "a client did not validate a model by the deadline; data.model, data.reason, with the place where "
    "its trainer was if it reported that",
    "package.changed": "a sandbox continues with another package than before; data.reason, data.before "
    "and data.package (hashes), round: the last one that was committed before",
    "client.attached": "a client was assigned to a combiner; data.ordinal, data.tasks, data.instance",
    "client.reassigned": "a client was moved to another combiner between two rounds; data.former (its combiner before)",
    "client.refused": "a client of another protocol version requested a combiner; data.reason, data.software",
    "session.forgotten": "what was recorded of an ended session was deleted on request, except its ledger; data.reason",
    "client.duplicate": "two processes work under one client's name; data.instances, data.continues, data.reason",
    "client.joined": "a combiner received a first message from a client",
    "client.vanished": "a client sent no message for three presence periods, or left; data.reason",
    "client.forgotten": "the record of a client that was away was deleted on request; data.reason",
    "combiner.joined": "a combiner registered with the reducer",
    "combiner.vanished": "a combiner sent no message for three presence periods, or left; data.reason",
    "combiner.forgotten": "the record of a combiner that was away was deleted on request; data.reason",
    "plan.voided": "the plan of a vanished or late combiner was superseded; data.reason, data.plan",
    "reducer.active": "a reducer acquired the lease; data.epoch",
    "stall.began": "a server has refused, or not answered, for 5 s; data.process, data.store (blob_store, records or "
    "broker), data.reason, data.effect (what is repeated), data.since (UTC seconds since 1970)",
    "stall.ended": "the server of a stall answers again; data.process, data.store, data.reason, data.seconds",
    "message.refused": "a message was undecodable, unknown, misaddressed, or sent too fast; data.reason, "
    "data.inbox (the queue), "
    "data.key (routing key of the message, if it is known) and data.sender (who sent it, if that is known)",
    "actor.error": "an internal error occurred; data.reason, data.traceback, data.actor (the role or name of the process)",
}


class EventRecord(Record):
    """An event. `at` is the time of publishing by the sender's clock."""

    table = EVENTS
    identity = "id"

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


def event_document(envelope: Envelope, event: Event) -> dict[str, Any]:
    """Returns the document of a valid event in a valid envelope. Validates nothing again.

    The id of an event that clients may publish contains its sender. Of two events with one id the first is kept, so a
    client could otherwise have the end of a session left out, whose id it can guess.
    """
    # A round of a thousand clients has thousands of events, and an EventRecord for each takes four times as long.
    own = event if isinstance(event, BatchedEvent) else envelope
    return {
        "id": event_id(f"{envelope.sender}:{own.id}") if event.name in CLIENT_EVENTS else own.id,
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
