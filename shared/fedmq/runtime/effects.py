"""Events that cores receive and effects that they return. Pure data.

A core is `handle(event, now) -> sequence of effects`. The sequence is one group: its effects start in order, and each
starts only after the earlier ones are durable (a put stored, a record inserted, a publish confirmed); only publishes
that follow each other don't wait for each other. If an effect is refused, the rest of its group up to the next `Apart` is
dropped, the core receives `Failed`, and the messages that this rest was to acknowledge are dead-lettered. An effect that
meets an outage of a server is retried until it succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from fedmq.errors import FedMQError
from fedmq.value import value
from fedmq_schemas.messages import Body, Envelope
from fedmq_schemas.topology import Queue

Answer = TypeVar("Answer")


class Now(NamedTuple):
    """The time at which an event is handled: `seconds` of the monotonic clock, and `wall`, UTC seconds since 1970."""

    seconds: float
    wall: float


class CoreEvent:
    """Base of what a core receives."""

    __slots__ = ()


class Effect:
    """Base of what a core returns. `ordered`: see `Perform`."""

    __slots__ = ()
    ordered: ClassVar[bool] = False


@value
class Started(CoreEvent):
    """The actor has started and consumes its inbox."""


@value
class Reconnected(CoreEvent):
    """The broker connection was lost and is restored: unsettled deliveries are void and will be redelivered."""


@value
class Stopping(CoreEvent):
    """The process is to end: the core announces that it leaves, and starts nothing new."""


@value
class Received(CoreEvent):
    """A message of the inbox, decoded; `tag` is to be acknowledged or rejected. `is_json`: it was encoded as JSON."""

    body: Body
    envelope: Envelope
    tag: int
    is_json: bool = False


@value
class Fired(CoreEvent):
    """The timer `key` ran out."""

    key: str


@value
class Done(CoreEvent):
    """An effect whose `reports` is true, the very object that the core returned, is complete with its result."""

    effect: Effect
    result: Any = None


@value
class Failed(CoreEvent):
    """An effect, the very object that the core returned, was refused; the rest of its group was not started."""

    effect: Effect
    error: FedMQError


@value
class Broken(CoreEvent):
    """The core raised an exception on `event`, which is a bug. What it holds in memory may be half of a change.

    Passed once for each exception; not for an exception on `Broken` itself.
    """

    event: CoreEvent
    error: FedMQError


@value
class Apart(Effect):
    """Separates parts of a group. Those after it wait for those before, but are not dropped with them."""


@value
class Publish(Effect):
    """Publishes a message.

    - `id`: identifies the message if it is published again; None: a fresh id.
    - `confirm` False: the message is published once, and the group does not wait for the broker.
    - `expiration`: seconds after which an unread message is discarded.
    """

    exchange: str
    routing_key: str
    body: Body
    id: str | None = None
    confirm: bool = True
    expiration: float | None = None


@value
class ReadsJson(Effect):
    """Notes that these clients read JSON. Messages to them are encoded so, until they attach or register in msgpack."""

    clients: tuple[str, ...]


@value
class PublishEvent(Effect):
    """Publishes an event on the event exchange; the group does not wait for it.

    The `id` of a decision's event derives from that decision, so that publishing it twice is harmless.
    """

    name: str
    session: str | None = None
    round: int | None = None
    client: str | None = None
    combiner: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@value
class Ack(Effect):
    """Acknowledges messages."""

    tags: tuple[int, ...]


@value
class Reject(Effect):
    """Rejects a message that can't be handled. It moves to the dead letters, and the reason is published."""

    tag: int
    reason: str


@value
class Resubscribe(Effect):
    """Returns all unsettled messages to the inbox, gives up the place as its active consumer, and consumes it again."""


@value
class Drained(Effect):
    """Declares that the core needs nothing more before the process ends, except the effects under way."""


@value
class Declare(Effect):
    """Declares a queue for another actor (a client's mailbox)."""

    queue: Queue


@value
class DeleteQueue(Effect):
    """Deletes the queue of another actor, which has left for good, with its messages. An absent queue is no error."""

    queue_name: str


@value
class StartTimer(Effect):
    """Starts a timer: `Fired(key)` follows after `seconds`. It replaces a timer of the same key."""

    key: str
    seconds: float


@value
class CancelTimer(Effect):
    """Cancels the timer `key`, if there is one."""

    key: str


@value
class Perform(Effect):
    """Base of effects that a role's own performers carry out (stores, folding, training).

    - `reports`: the core receives `Done` once the effect is performed.
    - `heavy`: the effect may take long, so it is performed off the actor's thread.
    - `is_optional`: if the effect is refused, the core receives `Failed`, and the rest of its group is not dropped; it is if
      the process is fenced.
    - `independent`: later effects of its group neither wait for it nor are dropped with it.
    - `store`: the store that the effect writes to, by the name in `Transient.store`. Given for those of which some may be
      written while the store refuses another for good.
    - `ordered`: ordered effects are performed one at a time, in the order in which the core returned them, across groups
      and retries. So what is recorded does not depend on which group gets on faster.
    """

    reports: ClassVar[bool] = False
    independent: ClassVar[bool] = False
    store: ClassVar[str] = ""

    @property
    def heavy(self) -> bool:
        """Whether this effect is heavy; see the class."""
        return False

    @property
    def is_optional(self) -> bool:
        """Whether this effect is optional; see the class."""
        return False

    def joined(self, later: Perform) -> Perform | None:
        """Returns one effect equivalent to `self` followed by `later`, both ordered; None if they cannot be joined.

        Only effects that do not report are joined. If the joined effect is refused, its parts are performed one by one.
        While a slow store is busy with one write, others gather: SQLite with fsync takes 64 writes instead of 4,034 for
        a session with 4,000 validations.
        """
        return None


class Question(Perform, Generic[Answer]):
    """Base of effects that are answered: the core receives `Done` with an `Answer`, or `Failed`."""

    __slots__ = ()
    reports: ClassVar[bool] = True


class Core(Protocol):
    """A role's decisions: no I/O, no clock, no threads, no unseeded randomness."""

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        """Returns the effects of one event as one group."""
