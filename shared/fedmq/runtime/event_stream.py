"""Receives the event stream: decodes events, and verifies that each has the address and the sender that it claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmq import codec
from fedmq.brokers.base import Connection, Delivery
from fedmq.errors import ProtocolError
from fedmq_schemas.limits import MOST_OF_CLIENT
from fedmq_schemas.messages import Envelope, Event, Events
from fedmq_schemas.topology import CLIENT_EVENTS, Queue, event_key

MOST_DATA = 16
"""Values in the data of an event that clients may publish. Readers keep thousands of events in memory."""


def decode_events(
    delivery: Delivery, alliance: str, user: str | None = None, *, is_client: bool = False
) -> tuple[Envelope, Sequence[Event]]:
    """Returns the events in a delivery. `user`: the account that must have sent them; None: any. `is_client`: a client's.

    Raises ProtocolError as `codec.decode` does, for a message that is no event, and for an event whose session and name
    are not those of its routing key. An event that clients may publish must be about its sender, and its data must be at
    most 16 texts and numbers. A client's message holds at most 10 events.
    """
    message = codec.decode(
        delivery.body, delivery.content_type, message_id=delivery.message_id, alliance=alliance, user=user
    )
    envelope, body = message.envelope, message.body
    events: Sequence[Event]
    match body:
        case Event():
            events = (body,)
        case Events():
            events = body.events
        case _:
            raise ProtocolError(f"a {body.kind} message on the event exchange")
    if is_client and len(events) > MOST_OF_CLIENT:
        raise ProtocolError(f"a message of {user!r} holds {len(events)} events: at most {MOST_OF_CLIENT} are received")
    for event in events:
        if delivery.routing_key != event_key(event.session, event.name):
            raise ProtocolError(
                f"an event {event.name} of session {event.session} was published to {delivery.routing_key!r}"
            )
        if event.name in CLIENT_EVENTS and not {event.client, event.combiner} <= {None, envelope.sender}:
            raise ProtocolError(f"{envelope.sender!r} reports {event.name} of somebody else")
        if event.name in CLIENT_EVENTS and not _is_small(event.data):
            raise ProtocolError(f"the data of an event {event.name} is at most {MOST_DATA} texts and numbers")
    return envelope, events


def _is_small(data: Mapping[str, Any]) -> bool:
    return len(data) <= MOST_DATA and not any(isinstance(value, list | dict) for value in data.values())


def observe(connection: Connection, queue: Queue, alliance: str, on_event: Callable[[Envelope, Event], None]) -> None:
    """Passes each event of an observer's queue to `on_event`, on the scheduler's thread. Events may be lost.

    An invalid one is ignored here: the recorder dead-letters it with the reason.
    """

    def deliver(delivery: Delivery) -> None:
        connection.ack([delivery.tag])
        try:
            envelope, events = decode_events(delivery, alliance)
        except ProtocolError:
            return
        for event in events:
            on_event(envelope, event)

    connection.declare(queue)
    connection.consume(queue.name, 0, deliver)
