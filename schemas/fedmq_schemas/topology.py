"""Exchanges, queues, bindings and permissions as data.

Broker adapters declare it, the AsyncAPI document lists it, and the broker permissions of each role derive from it.
Every name begins with the alliance's id. A queue's name ends in the generation of its arguments, because a broker refuses
to change the arguments of an existing queue. A queue whose arguments are new has a new name and `replaces` the earlier one,
which its consumer empties and deletes. A client's mailbox keeps its name: clients and their accounts of other versions, and
of programs in other languages, read it.

    exchange     routing key                      from → to
    control      control.<kind>                   any authorized account → reducer
    assignment   assignment.reducer.<sender>      client, combiner → reducer
    assignment   assignment.<client>              reducer → client
    task         plan.<combiner>                  reducer → combiner
    task         task.<client>                    combiner → client
    update       update.<combiner>.<client>       client, lower combiner → combiner
    update       update.reducer.<sender>          combiner (partials, places of hangs), client (validations) → reducer
    event        event.<session>.<name>           all → records, observers
    dead         <queue>                          rejected messages of that queue
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

REDUCER = "reducer"
NO_SESSION = "-"

EXCHANGES = ("control", "assignment", "task", "update", "event", "dead")

DAY = 24 * 3600.0
MAILBOX_EXPIRES = 7 * DAY
COMBINER_EXPIRES = 30 * DAY
OBSERVER_LENGTH = 10_000
OBSERVER_BYTES = 32 * 2**20
DEAD_LENGTH = 100_000
DEAD_BYTES = 64 * 2**20
DELIVERY_LIMIT = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def is_name(text: str) -> bool:
    """Whether `text` is a valid name of an alliance, combiner, client or session: one word of a routing key."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of a queue to a topic exchange. `exchange` is the complete name."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """The arguments of a queue.

    - `expires`: the number of seconds without use after which the broker deletes the queue.
    - `max_length`, `max_bytes`: most messages, and bytes of their bodies, that wait. Beyond either the oldest are dropped.
    - `dead_letter`: the exchange for rejected messages.
    - `exchanges`: further exchanges that its consumer publishes to; they are declared with the queue.
    - `replaces`: the queue of an earlier generation, as that declared it.
    """

    name: str
    kind: Literal["quorum", "classic"]
    bindings: tuple[Binding, ...]
    single_active_consumer: bool = False
    expires: float | None = None
    max_length: int | None = None
    max_bytes: int | None = None
    dead_letter: str | None = None
    exclusive: bool = False
    exchanges: tuple[str, ...] = ()
    replaces: Queue | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the queue in all generations, the newest first."""
        return (self.name, *(self.replaces.names if self.replaces is not None else ()))

    @property
    def arguments(self) -> dict[str, bool | int | str]:
        """The arguments of `queue.declare`.

        There is no `x-dead-letter-exchange`: the consumer publishes rejected messages itself, with their reason, and a
        message that expires unread must not become a dead letter.
        """
        found: dict[str, bool | int | str] = {"x-queue-type": self.kind}
        if self.kind == "quorum":
            # RabbitMQ 4 drops a message after 20 deliveries by default, and 3.10 takes -1 for 0: so a number that is
            # never reached.
            found["x-delivery-limit"] = DELIVERY_LIMIT
        if self.single_active_consumer:
            found["x-single-active-consumer"] = True
        if self.expires is not None:
            found["x-expires"] = round(self.expires * 1000)
        if self.max_length is not None:
            found["x-max-length"] = self.max_length
        if self.max_bytes is not None:
            found["x-max-length-bytes"] = self.max_bytes
        if not {"x-max-length", "x-max-length-bytes"}.isdisjoint(found):
            found["x-overflow"] = "drop-head"
        return found

    def receives(self, exchange: str, routing_key: str) -> bool:
        """Whether the queue is bound to this address. Patterns here hold no `*`, and `#` only as their last word."""
        return any(
            bound.exchange == exchange
            and (bound.routing_key == routing_key or _starts_with(bound.routing_key, routing_key))
            for bound in self.bindings
        )


def _starts_with(pattern: str, routing_key: str) -> bool:
    return pattern.endswith("#") and f"{routing_key}.".startswith(pattern[:-1])


@dataclass(frozen=True, slots=True)
class Topology:
    """The exchanges and queues of one alliance."""

    alliance: str

    def exchange(self, name: str) -> str:
        """Returns the complete name of one of `EXCHANGES`."""
        return f"{self.alliance}.{name}"

    def _queue_name(self, name: str, generation: int = 1) -> str:
        return f"{self.alliance}.{name}.v{generation}"

    def _bind(self, exchange: str, routing_key: str) -> Binding:
        return Binding(self.exchange(exchange), routing_key)

    def reducer(self) -> Queue:
        """Inbox of the reducers. The broker delivers to one of them at a time; the others stand by."""
        return Queue(
            self._queue_name(REDUCER),
            "quorum",
            (
                self._bind("control", "control.#"),
                self._bind("assignment", f"assignment.{REDUCER}.#"),
                self._bind("update", f"update.{REDUCER}.#"),
            ),
            single_active_consumer=True,
            dead_letter=self.exchange("dead"),
            exchanges=tuple(self.exchange(name) for name in EXCHANGES),
        )

    def combiner(self, combiner: str) -> Queue:
        """Inbox of a combiner. Single active consumer: an old process and its successor must not share the updates.

        It expires, as a combiner may leave for good without notice. Clients repeat the updates that it held.
        """
        inbox = Queue(
            self._queue_name(f"combiner.{combiner}"),
            "quorum",
            (self._bind("task", f"plan.{combiner}"), self._bind("update", f"update.{combiner}.#")),
            single_active_consumer=True,
            dead_letter=self.exchange("dead"),
        )
        return replace(
            inbox, name=self._queue_name(f"combiner.{combiner}", 2), expires=COMBINER_EXPIRES, replaces=inbox
        )

    def client(self, client: str) -> Queue:
        """Mailbox of a client, declared by the reducer. After its loss, tasks are sent again; no update is lost."""
        return Queue(
            self._queue_name(f"client.{client}"),
            "classic",
            (self._bind("assignment", f"assignment.{client}"), self._bind("task", f"task.{client}")),
            expires=MAILBOX_EXPIRES,
        )

    def records(self) -> Queue:
        """Queue of all events to be recorded."""
        return Queue(
            self._queue_name("records"), "quorum", (self._bind("event", "event.#"),), dead_letter=self.exchange("dead")
        )

    def dead(self) -> Queue:
        """Queue of messages that could not be decoded or handled, with the reason in their headers."""
        letters = Queue(self._queue_name("dead"), "quorum", (self._bind("dead", "#"),), max_length=DEAD_LENGTH)
        return replace(letters, name=self._queue_name("dead", 2), max_bytes=DEAD_BYTES, replaces=letters)

    def observer(self, name: str, routing_key: str = "event.#") -> Queue:
        """Queue of a live view. It is deleted with its connection, and drops its oldest events when the view is slow."""
        return Queue(
            self._queue_name(f"observer.{name}"),
            "classic",
            (self._bind("event", routing_key),),
            max_length=OBSERVER_LENGTH,
            max_bytes=OBSERVER_BYTES,
            exclusive=True,
        )


def control_key(kind: str) -> str:
    """Returns the routing key of a start or stop message."""
    return f"control.{kind}"


def assignment_request_key(sender: str) -> str:
    """Returns the routing key of a client's or combiner's request to the reducer."""
    return f"assignment.{REDUCER}.{sender}"


def assignment_key(client: str) -> str:
    """Returns the routing key of the reducer's answers to a client."""
    return f"assignment.{client}"


def plan_key(combiner: str) -> str:
    """Returns the routing key of the reducer's messages to a combiner."""
    return f"plan.{combiner}"


def task_key(client: str) -> str:
    """Returns the routing key of a combiner's messages to a client."""
    return f"task.{client}"


def update_key(receiver: str, sender: str) -> str:
    """Returns the routing key of results and presence messages to a combiner, or to `REDUCER`."""
    return f"update.{receiver}.{sender}"


def event_key(session: str | None, name: str) -> str:
    """Returns the routing key of an event. Without a session, `NO_SESSION` stands in its place."""
    return f"event.{session or NO_SESSION}.{name}"


CLIENT_EVENTS = ("message.refused", "actor.error")
"""The events that a client may publish. All others about a client are published by its combiner and the reducer."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """RabbitMQ permissions of one account, as regular expressions.

    `configure`, `write` and `read` match names of exchanges and queues. `topic_write` and `topic_read` match routing keys,
    by exchange. An exchange that they do not name has no limit on routing keys.
    """

    configure: str
    write: str
    read: str
    topic_write: dict[str, str]
    topic_read: dict[str, str]


def server_permissions(topology: Topology) -> Permissions:
    """Permissions of the account of reducers, combiners and dashboards: everything within the alliance."""
    everything = f"^{topology.alliance}[.]"
    return Permissions(everything, everything, everything, {}, {})


def client_permissions(topology: Topology, client: str) -> Permissions:
    """Permissions of a client: publishes under its own name, reads its own mailbox, declares and binds nothing."""
    me, alliance = re.escape(client), re.escape(topology.alliance)
    events = "|".join(re.escape(event_key(None, name)) for name in CLIENT_EVENTS)
    return Permissions(
        configure="^$",
        write=f"^{alliance}\\.(assignment|update|event)$",
        read=f"^{re.escape(topology.client(client).name)}$",
        topic_write={
            topology.exchange("assignment"): f"^assignment\\.{REDUCER}\\.{me}$",
            topology.exchange("update"): f"^update\\.[^.]+\\.{me}$",
            topology.exchange("event"): f"^({events})$",
        },
        topic_read={},
    )
