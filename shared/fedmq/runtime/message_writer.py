"""Encodes and publishes what an actor sends: messages in envelopes, and events, several of which share a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedmq import codec
from fedmq.brokers.base import Connection, Outgoing
from fedmq.errors import ProtocolError
from fedmq.runtime import effects
from fedmq.runtime.peers.json_readers import JsonReaders
from fedmq.scheduler import Scheduler
from fedmq_schemas import messages
from fedmq_schemas.limits import MOST_EVENTS, MOST_OF_CLIENT
from fedmq_schemas.messages import Body
from fedmq_schemas.topology import CLIENT_EVENTS, Topology, event_key

BodyWriter = Callable[[Any], Mapping[str, Any]]
"""Returns the fields of a message body."""

"""Events in one message."""


class MessageWriter:
    """Writes the messages of `sender`. `writers`: for types of bodies whose fields are not the body's own.

    `readers`: the clients that are answered in JSON.
    """

    def __init__(
        self,
        sender: str,
        connection: Connection,
        scheduler: Scheduler,
        topology: Topology,
        new_id: Callable[[], str],
        writers: Mapping[type[Body], BodyWriter],
        readers: JsonReaders | None = None,
    ) -> None:
        self._sender = sender
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._new_id = new_id
        self._writers = dict(writers)
        self._readers = readers or JsonReaders()
        self._event_exchange = topology.exchange("event")
        self._events: list[dict[str, Any]] = []

    def encode(self, effect: effects.Publish, cause: str | None) -> Outgoing:
        """Returns the encoded message. Raises ProtocolError if it is too large."""
        body = effect.body
        write: BodyWriter = self._writers.get(type(body), codec.fields_of)
        exchange = self._topology.exchange(effect.exchange)
        form = self._readers.content_type(effect.exchange, effect.routing_key)
        fields, key = write(body), effect.routing_key
        return self._outgoing(exchange, key, body.kind, fields, effect.id, cause, effect.expiration, form)

    def add_event(self, effect: effects.PublishEvent, cause: str | None) -> None:
        """Adds an event to those of its name and session, published unconfirmed on the next turn or by `flush_events`."""
        event = {
            "name": effect.name,
            "session": effect.session,
            "round": effect.round,
            "client": effect.client,
            "combiner": effect.combiner,
            "data": dict(effect.data),
            "id": effect.id or self._new_id(),
            "cause": cause,
        }
        events = self._events
        most = MOST_OF_CLIENT if effect.name in CLIENT_EVENTS else MOST_EVENTS
        if events and (
            events[0]["name"] != effect.name or events[0]["session"] != effect.session or len(events) == most
        ):
            self.flush_events()
        if not self._events:
            self._scheduler.post(self.flush_events)
        self._events.append(event)

    def flush_events(self) -> None:
        """Publishes the added events. To be called before publishing anything that must not overtake them.

        An event that is too large for a message is published without its data, but with its reason.
        """
        if not self._events:
            return
        events, self._events = self._events, []
        try:
            self._publish_events(events)
        except ProtocolError as error:
            if len(events) > 1:
                for event in events:
                    self._events = [event]
                    self.flush_events()
                return
            # The event has happened, so it must be published all the same.
            [event] = events
            reason = str(event["data"].get("reason", ""))[:1000].encode(errors="replace").decode()
            event["data"] = {"reason": reason, "left_out": error.reason}
            self._publish_events([event])

    def _publish_events(self, events: list[dict[str, Any]]) -> None:
        first = events[0]
        key = event_key(first["session"], first["name"])
        if len(events) == 1:
            fields = {name: value for name, value in first.items() if name not in ("id", "cause")}
            kind, message_id, cause = messages.Event.kind, first["id"], first["cause"]
        else:
            fields, kind, message_id, cause = {"events": events}, messages.Events.kind, None, None
        self._connection.publish(self._outgoing(self._event_exchange, key, kind, fields, message_id, cause, None))

    def _outgoing(
        self,
        exchange: str,
        key: str,
        kind: str,
        fields: Mapping[str, Any],
        message_id: str | None,
        cause: str | None,
        expiration: float | None,
        form: str = codec.MSGPACK,
    ) -> Outgoing:
        message_id = message_id or self._new_id()
        envelope = {
            "kind": kind,
            "version": messages.VERSION,
            "id": message_id,
            "cause": cause,
            "alliance": self._topology.alliance,
            "sender": self._sender,
            "sent_at": self._scheduler.wall(),
        }
        return Outgoing(exchange, key, codec.encode(envelope, fields, form), message_id, form, expiration)
