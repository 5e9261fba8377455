"""What an actor says: messages in their envelopes, and events, which are told together where they come at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedmq import codec, effects
from fedmq.brokers.base import Connection, Outgoing
from fedmq.errors import ProtocolError
from fedmq.scheduler import Scheduler
from fedmq_schemas import messages
from fedmq_schemas.messages import Body
from fedmq_schemas.topology import Topology, event_key

Prepare = Callable[[Any], Mapping[str, Any]]

MOST_TOLD = 100
"""Events in one message."""


class Outbox:
    """Encodes and sends as `sender`. `new_id` gives message ids; `prepare`: for a body's type, what makes its fields."""

    def __init__(
        self,
        sender: str,
        connection: Connection,
        scheduler: Scheduler,
        topology: Topology,
        new_id: Callable[[], str],
        prepare: Mapping[type[Body], Prepare],
    ) -> None:
        self._sender = sender
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._new_id = new_id
        self._prepare = dict(prepare)
        self._event_exchange = topology.exchange("event")
        self._untold: list[dict[str, Any]] = []

    def encoded(self, effect: effects.Publish, cause: str | None) -> Outgoing:
        """The message, ready to go. Raises ProtocolError if it is too large."""
        body = effect.body
        prepare = self._prepare.get(type(body))
        fields = codec.fields_of(body) if prepare is None else prepare(body)
        exchange = self._topology.exchange(effect.exchange)
        return self._outgoing(exchange, effect.routing_key, body.kind, fields, effect.id, cause, effect.expiration)

    def emit(self, effect: effects.PublishEvent, cause: str | None) -> None:
        """Takes an event, to be sent unconfirmed with those of its name and session that come at once: on the scheduler's
        next turn, or by `tell`."""
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
        untold = self._untold
        if untold and (
            untold[0]["name"] != effect.name or untold[0]["session"] != effect.session or len(untold) == MOST_TOLD
        ):
            self.tell()
        if not self._untold:
            self._scheduler.post(self.tell)
        self._untold.append(event)

    def tell(self) -> None:
        """Sends the events that were taken. To be called before anything that must not get ahead of them is sent."""
        if not self._untold:
            return
        untold, self._untold = self._untold, []
        try:
            self._tell(untold)
        except ProtocolError as error:
            if len(untold) > 1:
                for event in untold:
                    self._untold = [event]
                    self.tell()
                return
            # What it tells has happened, so it tells less.
            [event] = untold
            reason = str(event["data"].get("reason", ""))[:1000].encode(errors="replace").decode()
            event["data"] = {"reason": reason, "left_out": error.reason}
            self._tell([event])

    def _tell(self, events: list[dict[str, Any]]) -> None:
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
        return Outgoing(exchange, key, codec.encode(envelope, fields), message_id, expiration=expiration)
