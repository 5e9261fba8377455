"""The broker port: durable queues bound to topic exchanges, with acknowledgements and confirms.

The semantics are RabbitMQ's. All callbacks run on the scheduler's thread, in order, and every method is called from that
thread, unless its docstring says otherwise. An adapter with threads of its own posts to the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedmq.codec import MSGPACK
from fedmq.errors import FedMQError, cut
from fedmq_schemas.topology import Queue, Topology


@dataclass(slots=True)
class Outgoing:
    """A message to publish. `expiration`: seconds after which the broker may drop it unread, None: never.

    With `mandatory`, the confirm fails with `NotFound` if no queue receives the message.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    content_type: str = MSGPACK
    expiration: float | None = None
    mandatory: bool = False


@dataclass(slots=True)
class Delivery:
    """A message that was handed to a consumer.

    `tag` settles it and is never used again on its connection, so a tag from before a reconnect settles nothing. `user` is
    the account that published the message, as the broker verified it; None where it did not. Quorum queues of RabbitMQ 4
    deliver messages of a high `priority` first.
    """

    tag: int
    queue: str
    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    content_type: str
    redelivered: bool
    user: str | None = None
    priority: int = 0
    headers: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Depth:
    """How full a queue is at one instant. `ready` messages wait; `unacked` ones are with a consumer, None: not known."""

    name: str
    ready: int
    unacked: int | None
    consumers: int


OnDelivery = Callable[[Delivery], None]
OnConfirm = Callable[[FedMQError | None], None]
OnReconnect = Callable[[], None]
OnError = Callable[[FedMQError], None]


LONGEST_DEAD_BODY = 4096
"""In bytes. The reason and the beginning of a message say what is wrong with it."""


def dead_exchange(exchange: str) -> str:
    """Returns the name of the `dead` exchange of the alliance that an exchange belongs to."""
    return f"{exchange.rpartition('.')[0]}.dead"


def dead_headers(reason: str, exchange: str, routing_key: str, user: str | None) -> dict[str, str]:
    """Returns the headers of a dead letter: why it was rejected, and the address and sender that it had."""
    return {
        "x-fedmq-reason": cut(reason),
        "x-fedmq-exchange": exchange,
        "x-fedmq-routing-key": routing_key,
        "x-fedmq-sender": user or "",
    }


def dead_letter(delivery: Delivery, reason: str, exchange: str | None) -> tuple[Outgoing, Mapping[str, Any]]:
    """Returns the dead letter of a rejected delivery for this `dead` exchange (None: its alliance's), and its headers.

    A dead letter that is rejected keeps its headers and its address, which name the reason that it has.
    """
    exchange = exchange or dead_exchange(delivery.exchange)
    is_dead = delivery.exchange == exchange
    letter = Outgoing(
        exchange,
        delivery.routing_key if is_dead else delivery.queue,
        delivery.body[:LONGEST_DEAD_BODY],
        delivery.message_id,
        delivery.content_type,
    )
    if is_dead:
        return letter, delivery.headers
    return letter, dead_headers(reason, delivery.exchange, delivery.routing_key, delivery.user)


class Connection(Protocol):
    """One actor's link to the broker. It reconnects by itself, for ever, with back-off.

    - `on_error`: receives a ConfigError, once for each cause, when retrying cannot help: a queue that exists with other
      arguments, wrong credentials, a missing permission. While it is None the error is raised on the scheduler's thread.
    - `on_reconnect`: called when a lost connection is restored, consumers included. All earlier unsettled deliveries are
      void: the broker delivers them again, first and in order.

    Calls on a closed connection do nothing.
    """

    on_reconnect: OnReconnect | None
    on_error: OnError | None

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now; from any thread."""

    @property
    def silent(self) -> float:
        """Seconds for which the broker has sent nothing on a connection that is not lost, once it has missed a heartbeat.

        0.0 otherwise. While it is silent it cannot be reached. From any thread.
        """

    @property
    def blocked(self) -> str:
        """Why the broker accepts no messages from this connection, such as `low on disk`; empty if it does.

        RabbitMQ reports this to a connection only once the connection publishes. From any thread.
        """

    @property
    def unserved(self) -> str:
        """The name of a consumed queue for which the broker has not begun deliveries for 10 s; empty if there is none.

        A queue that does not exist is no such queue. From any thread.
        """

    def declare(self, queue: Queue) -> None:
        """Declares the queue, its bindings and exchanges, before anything that is published later.

        Again with the same arguments it does nothing; with others, `on_error` receives a ConfigError.
        """

    def delete(self, queue_name: str) -> None:
        """Deletes a queue with its messages. Does nothing if it does not exist."""

    def publish(self, message: Outgoing, on_confirm: OnConfirm | None = None) -> None:
        """Publishes a message. Messages of one connection to one queue arrive in the order of these calls.

        - `on_confirm(None)`: it is routed to durable queues and stored. `on_confirm(error)`: it is refused for good:
          `NotFound` for an unknown exchange, `ConfigError` for one that this account may not write to, `ProtocolError`
          for an address or an id of more than 255 bytes.
        - After a reconnect, unconfirmed messages are published again with the same id, so they may arrive twice.
        - Without `on_confirm` the message is published once and may be lost. A refusal is logged, and ends nothing.
        """

    def consume(self, queue_name: str, prefetch: int, on_delivery: OnDelivery) -> None:
        """Receives the queue's messages, at most `prefetch` of them unsettled at a time (0: no limit).

        Waits for a queue that does not exist yet or is deleted later. Of a queue with a single active consumer, only the
        first live consumer receives messages. Raises ConfigError if this connection already consumes the queue.
        """

    def retire(self, queue: Queue, prefetch: int, on_delivery: OnDelivery) -> None:
        """Receives what is left in a queue that another one replaces, then deletes it. Call it after `declare` of that one.

        Removes the queue's bindings first, so that nothing new reaches it. Deletes it once it is empty, all its deliveries
        are settled, and no other connection consumes it. Several connections may retire one queue. Does nothing if there is
        no such queue. `cancel` ends it.
        """

    def cancel(self, queue_name: str) -> None:
        """Ends the deliveries of a queue. Unsettled ones can still be settled."""

    def ack(self, tags: list[int]) -> None:
        """Acknowledges deliveries. Unknown and old tags do nothing."""

    def reject(self, tag: int, reason: str) -> None:
        """Moves a delivery to its queue's dead-letter exchange, else the alliance's, with the `dead_headers`.

        The dead letter holds at most `LONGEST_DEAD_BODY` bytes of its body.
        """

    def requeue(self, tag: int) -> None:
        """Returns a delivery to its queue, marked as redelivered.

        Its place among the waiting messages is undefined: RabbitMQ's choice depends on queue type and version.
        """

    def close(self, timeout: float = 5.0) -> None:
        """Waits at most `timeout` seconds for outstanding confirms, then disconnects.

        Unsettled deliveries return to the front of their queues, in order, marked as redelivered.
        """

    def kill(self) -> None:
        """Disconnects at once, as a crash would."""


class Broker(Protocol):
    """Makes connections."""

    @property
    def account(self) -> str | None:
        """The account of all connections, which receivers see as `user`; None: that is a connection's name."""

    def connect(self, name: str) -> Connection:
        """Returns a new connection at once; calls wait until it is established. `name`: the actor's role and id."""


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """How many connections an account may have, and channels on all of them. None: any number."""

    connections: int | None
    channels: int | None


CLIENT_LIMITS = AccountLimits(connections=4, channels=10)
"""Of a client's account. A client uses one connection with two channels. One that was lost may count for 20 s, and `fedmq
doctor` and a second process of the name use one each."""


class Accounts(Protocol):
    """The accounts of an alliance's clients at the broker, each with the permissions and the limits of a client and no more.

    The calls raise Transient if the broker can't be reached. They raise ConfigError if it refuses, or if the name is not,
    or can't be, a client's of this alliance.
    """

    def add(self, client: str) -> str:
        """Creates the account and returns its password. An existing account gets a new password."""

    def limit(self, client: str) -> bool:
        """Gives an account `CLIENT_LIMITS`, such as one that was made by a version before. Returns whether it exists.

        Open connections stay. May be called again.
        """

    def limits(self) -> dict[str, AccountLimits]:
        """Returns the limits of the clients of this alliance that have an account, by name, sorted."""

    def revoke(self, client: str) -> bool:
        """Deletes the account and its mailbox, and closes its connections. Returns whether the account existed."""

    def names(self) -> list[str]:
        """Returns the clients of this alliance that have an account, sorted."""


@dataclass(frozen=True, slots=True)
class FileHandles:
    """Files and connections of a broker.

    `limit`: how many may be open; 0 if it is not known yet. `needed`: about how many its connections and queues take now.
    """

    limit: int
    needed: int


class Administration(Protocol):
    """A broker as its administrators see it. Calls block, and need no scheduler.

    The calls raise Transient if the broker can't be reached, and ConfigError with the remedy if it refuses.
    """

    def probe(self, topology: Topology | None, client: str | None = None) -> str:
        """Connects once with the account of the broker's URL, and returns the broker's version.

        With `topology` it tries what the account of the alliance's servers must be permitted; with `client` too, it tries
        instead whether the account may publish as that client, and raises Refused if not. Raises NotFound if the alliance
        has no exchanges yet.
        """

    def depths(self, alliance: str) -> Sequence[Depth]:
        """Returns the depths of the alliance's queues, by name."""

    def file_handles(self) -> FileHandles:
        """Returns how many files and connections the broker may hold open, and how many it needs now."""

    def consumers(self, queue: str) -> int | None:
        """Returns how many consumers a queue has; None if there is no such queue. Any account may ask for any queue."""

    def ask(self, message: Outgoing, mailbox: str, is_answer: Callable[[bytes], bool]) -> bytes | None:
        """Publishes a message with the account's name, and returns the body of its answer in a queue that nobody consumes.

        Returns None if none arrives within 3 s. Other messages of the queue, which need not exist yet, stay there.
        """

    def accounts(self, topology: Topology) -> Accounts:
        """Returns the accounts of an alliance's clients."""

    def close(self) -> None:
        """Closes the connections of these calls."""
