"""Inquires of the reducer over the broker, as a client reaches nothing else of the alliance's servers for certain."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq.brokers.registry import open_administration
from fedmq.errors import FedMQError, ProtocolError
from fedmq.process.settings import ClientSettings
from fedmq_schemas.messages import About, Envelope, Inquiry
from fedmq_schemas.topology import Topology, assignment_request_key


@dataclass(frozen=True, slots=True)
class Inquired:
    """The reducer's answer, and by how many seconds this machine's clock is ahead of the reducer's; or why there is none."""

    about: About | None = None
    ahead: float = 0.0
    why_not: str = ""


def inquire(settings: ClientSettings) -> Inquired:
    """Publishes an `inquiry` in the client's name, and reads the answer from its mailbox.

    Not while a client of that name runs, which would receive the answer. Raises nothing.
    """
    name = settings.client_name
    if name is None:
        return Inquired(why_not="without FEDN_CLIENT_NAME there is no mailbox for an answer")
    topology = Topology(settings.alliance)
    try:
        administration = open_administration(settings.amqp_url.get_secret_value(), None)
        try:
            if not administration.consumers(topology.reducer().name):
                return Inquired(why_not="no reducer runs now")
            mailbox = topology.client(name).name
            if administration.consumers(mailbox):
                return Inquired(why_not=f"a client named {name} runs already, and would receive the answer")
            sent_id, began = secrets.token_hex(8), time.time()
            body = administration.ask(
                _inquiry(topology, name, sent_id),
                mailbox,
                lambda each: (found := _read(each, topology)) is not None and found.envelope.cause == sent_id,
            )
            ended = time.time()
        finally:
            administration.close()
    except FedMQError as error:
        return Inquired(why_not=error.reason)
    message = None if body is None else _read(body, topology)
    if message is None or not isinstance(message.body, About):
        return Inquired(why_not="no reducer has answered over the broker")
    return Inquired(message.body, (began + ended) / 2 - message.envelope.sent_at)


def _inquiry(topology: Topology, name: str, sent_id: str) -> Outgoing:
    envelope = Envelope(kind=Inquiry.kind, id=sent_id, alliance=topology.alliance, sender=name, sent_at=time.time())
    body = codec.encode(envelope.model_dump(), codec.fields_of(Inquiry()))
    return Outgoing(topology.exchange("assignment"), assignment_request_key(name), body, sent_id)


def _read(body: bytes, topology: Topology) -> codec.Message | None:
    """Returns a message of the mailbox; None for one that this version cannot read."""
    try:
        return codec.decode(body, codec.MSGPACK, message_id="", alliance=topology.alliance)
    except ProtocolError:
        return None
