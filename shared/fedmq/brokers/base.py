"""The broker port: durable queues bound to topic exchanges, with acknowledgements and confirms.

The semantics are RabbitMQ's. All callbacks run on the scheduler's thread, in order, and every
method is called from that thread; an adapter with threads of its own posts to the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fedmq.errors import FedMQError
from fedmq_schemas.topology import Queue

MSGPACK = "application/msgpack"
JSON = "application/json"


@dataclass(slots=True)
class Outgoing:
    """A message to publish. `expiration`: seconds until the broker may drop it unread, None: never.

    With `mandatory`, a message that no queue would receive is a failed confirm (`NotFound`).
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
    """A message that was handed to a consumer and is not yet settled. `tag` is unique in its
    connection for ever: acking a tag of before a reconnect does nothing. `user` is the broker's own
    word on who published it, if it has one.
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
    headers: Mapping[str, object] = field(default_factory=dict)


OnDelivery = Callable[[Delivery], None]
OnConfirm = Callable[[FedMQError | None], None]
OnReconnect = Callable[[], None]
OnError = Callable[[FedMQError], None]


def dead_exchange(exchange: str) -> str:
    """The `dead` exchange of the alliance that an exchange belongs to."""
    return f"{exchange.rpartition('.')[0]}.dead"


def dead_headers(reason: str, exchange: str, routing_key: str, user: str | None) -> dict[str, str]:
    """The headers of a dead letter: why it was rejected, and the address and sender that it had."""
    return {
        "x-fedmq-reason": reason,
        "x-fedmq-exchange": exchange,
        "x-fedmq-routing-key": routing_key,
        "x-fedmq-sender": user or "",
    }


class Connection(Protocol):
    """One actor's link to the broker. It reconnects by itself, for ever, with back-off.

    - `declare(queue)`: makes queue, bindings and the exchanges they need, before anything that is
      published later. Again with the same arguments: nothing happens. With others: ConfigError
      through `on_error`.
    - `delete(queue_name)`: removes a queue with its messages; absent: nothing happens.
    - `publish(message, on_confirm)`: `on_confirm(None)` once the broker has taken responsibility
      (routed to durable queues and stored), `on_confirm(error)` if it refused for good. Messages of
      one connection to one queue arrive in the order of their publish calls. After a reconnect what
      is unconfirmed is sent again with the same id, so a receiver may see it twice. Without
      `on_confirm` it is sent once and may be lost. An exchange that does not exist is a failed
      confirm (`NotFound`), one that this account may not write to is too (`ConfigError`).
    - `consume(queue_name, prefetch, on_delivery)`: at most `prefetch` deliveries unsettled at a
      time (0: no bound). A queue that is not there yet, or is deleted meanwhile, is waited for.
      With single active consumer only the first live consumer receives. Consuming a queue that this
      connection consumes already: ConfigError, raised.
    - `cancel(queue_name)`: no more deliveries from it; unsettled ones stay settleable.
    - `ack(tags)`: done with these; unknown or old tags: nothing happens.
    - `reject(tag, reason)`: to the dead-letter exchange with the reason in header `x-fedmq-reason`
      and the original exchange, routing key and sender beside it. Where a queue has no dead-letter
      exchange the message is still published to `dead` by the adapter.
    - `requeue(tag)`: back to the queue, marked redelivered; whether before or after what waits there is the broker's
      choice (RabbitMQ's differs by queue type and version), so whoever requeues must not wait for others to come first.
    - `on_error`: called with a ConfigError, once for each cause, when trying again cannot help: a
      queue of other arguments, wrong credentials, a missing permission. While it is None the error
      is raised on the scheduler's thread.
    - `on_reconnect`: called after a connection was lost and is whole again (consumers included).
      All unsettled deliveries of before are void: the broker delivers them again, first and in
      order.
    - `close()`: waits for the confirms of outstanding publishes for at most `timeout` seconds, then
      leaves. Unsettled deliveries return to the front of their queues, in order, marked
      redelivered. `kill()` leaves at once, as a crash would. Calls on a closed connection do
      nothing.
    """

    on_reconnect: OnReconnect | None
    on_error: OnError | None

    def declare(self, queue: Queue) -> None: ...
    def delete(self, queue_name: str) -> None: ...
    def publish(self, message: Outgoing, on_confirm: OnConfirm | None = None) -> None: ...
    def consume(self, queue_name: str, prefetch: int, on_delivery: OnDelivery) -> None: ...
    def cancel(self, queue_name: str) -> None: ...
    def ack(self, tags: list[int]) -> None: ...
    def reject(self, tag: int, reason: str) -> None: ...
    def requeue(self, tag: int) -> None: ...
    def close(self, timeout: float = 5.0) -> None: ...
    def kill(self) -> None: ...


class Broker(Protocol):
    """Where connections come from. `connect(name)`: the name is the actor's role and id
    (`combiner.c1`). Receivers
    see as `user` the account that the broker knows the sender by: the name itself in memory.
    """

    def connect(self, name: str) -> Connection: ...
