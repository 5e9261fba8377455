"""Which clients read JSON: messages to them are encoded as the message was with which they attached or registered."""

from __future__ import annotations

from fedmq import codec
from fedmq_schemas.messages import Attach, ClientHello, Inquiry

TO_CLIENTS = ("assignment", "task")
"""Exchanges that mailboxes are bound to, by `assignment.CLIENT` and `task.CLIENT`."""


class JsonReaders:
    """The names of the clients that read JSON, in `clients`. All others read msgpack."""

    def __init__(self) -> None:
        self.clients: set[str] = set()

    def note(self, message: codec.Message, is_json: bool) -> None:
        """Notes the encoding of a message by which a client attaches or registers. Other messages change nothing."""
        if not isinstance(message.body, Attach | ClientHello | Inquiry):
            return
        if is_json:
            self.clients.add(message.envelope.sender)
        else:
            self.clients.discard(message.envelope.sender)

    def content_type(self, exchange: str, routing_key: str) -> str:
        """Returns the content type of a message to this address; `exchange` without the alliance."""
        first, _, client = routing_key.partition(".")
        reads_json = first == exchange and exchange in TO_CLIENTS and client in self.clients
        return codec.JSON if reads_json else codec.MSGPACK
