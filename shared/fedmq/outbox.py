"""What an actor says: messages in their envelopes, and events."""

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

    def encoded(self, effect: effects.Publish, cause: str | None) -> Outgoing:
        """The message, ready to go. Raises ProtocolError if it is too large."""
        body = effect.body
        prepare = self._prepare.get(type(body))
        fields = body.model_dump() if prepare is None else prepare(body)
        exchange = self._topology.exchange(effect.exchange)
        return self._outgoing(exchange, effect.routing_key, body.kind, fields, effect.id, cause, effect.expiration)

    def emit(self, effect: effects.Emit, cause: str | None) -> None:
        """Sends an event, unconfirmed. What it tells has happened, so where it is too large it tells less."""
        fields = {
            "name": effect.name,
            "session": effect.session,
            "round": effect.round,
            "client": effect.client,
            "combiner": effect.combiner,
            "data": dict(effect.data),
        }
        key = event_key(effect.session, effect.name)
        kind = messages.Event.kind
        try:
            outgoing = self._outgoing(self._event_exchange, key, kind, fields, effect.id, cause, None)
        except ProtocolError as error:
            fields["data"] = {"reason": str(effect.data.get("reason", ""))[:1000], "left_out": error.reason}
            outgoing = self._outgoing(self._event_exchange, key, kind, fields, effect.id, cause, None)
        self._connection.publish(outgoing)

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
