"""Control messages, published from a web server's threads and confirmed by the broker."""

from __future__ import annotations

from concurrent.futures import Future

from fedmq import codec
from fedmq.brokers.base import Connection, Outgoing
from fedmq.errors import FedMQError, Transient
from fedmq.scheduler import Scheduler
from fedmq_schemas.messages import VERSION, Body
from fedmq_schemas.topology import Topology, control_key

CONFIRM_SECONDS = 10.0


class ControlPublisher:
    """Publishes control messages as `sender`. A broker that checks senders requires the connection's account."""

    def __init__(self, connection: Connection, scheduler: Scheduler, topology: Topology, sender: str) -> None:
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._sender = sender

    def __call__(self, body: Body, message_id: str) -> None:
        """Publishes, and waits for the broker off the scheduler's thread. Raises its error, or Transient."""
        envelope = {
            "kind": body.kind,
            "version": VERSION,
            "id": message_id,
            "alliance": self._topology.alliance,
            "sender": self._sender,
            "sent_at": self._scheduler.wall(),
        }
        message = Outgoing(
            self._topology.exchange("control"),
            control_key(body.kind),
            codec.encode(envelope, body.model_dump()),
            message_id,
        )
        confirmed: Future[FedMQError | None] = Future()
        self._scheduler.post(lambda: self._connection.publish(message, confirmed.set_result))
        try:
            error = confirmed.result(CONFIRM_SECONDS)
        except TimeoutError:
            if self._connection.blocked:
                words = (
                    f"the broker accepts no messages ({self._connection.blocked}), and receives this one once it does"
                )
                raise Transient(f"{words}; `fedmq status` shows since when", store="broker") from None
            raise Transient("the broker does not answer; try again with the same id", store="broker") from None
        if error is not None:
            raise error
