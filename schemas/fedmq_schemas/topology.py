"""Exchanges, queues, bindings and permissions as data.

The adapters declare from it, the contract document draws it, and each role's broker permissions derive from it.
Every name begins with the alliance's id, and queue names end in the topology's generation, because a broker refuses to
change the arguments of a queue that exists.

    exchange     routing key                      from → to
    control      control.<kind>                   anybody who may start → reducer
    assignment   assignment.reducer.<sender>      client, combiner → reducer
    assignment   assignment.<client>              reducer → client
    task         plan.<combiner>                  reducer → combiner
    task         task.<client>                    combiner → client
    update       update.<combiner>.<client>       client, lower combiner → combiner
    update       update.reducer.<sender>          combiner (partials), client (validations) → reducer
    event        event.<session>.<name>           all → records, observers
    dead         the queue it came from           what could not be decoded or handled
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

GENERATION = "v1"
REDUCER = "reducer"
NO_SESSION = "-"

EXCHANGES = ("control", "assignment", "task", "update", "event", "dead")

MAILBOX_EXPIRES = 7 * 24 * 3600.0
OBSERVER_LENGTH = 10_000
DEAD_LENGTH = 100_000
DELIVERY_LIMIT = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def is_name(text: str) -> bool:
    """Whether `text` may name an alliance, combiner, client or session: it becomes one word of a routing key."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of a queue to a topic exchange (both names complete)."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's arguments. `expires`: seconds unused until it is removed. `dead_letter`: the exchange for rejects.
    `exchanges`: further ones that its reader publishes to, made with it."""

    name: str
    kind: Literal["quorum", "classic"]
    bindings: tuple[Binding, ...]
    single_active_consumer: bool = False
    expires: float | None = None
    max_length: int | None = None
    dead_letter: str | None = None
    exclusive: bool = False
    exchanges: tuple[str, ...] = ()

    def receives(self, exchange: str, routing_key: str) -> bool:
        """Whether it is bound to this address. No pattern here holds `*`, or `#` but as its last word."""
        return any(
            bound.exchange == exchange
            and (bound.routing_key == routing_key or _starts_with(bound.routing_key, routing_key))
            for bound in self.bindings
        )


def _starts_with(pattern: str, routing_key: str) -> bool:
    return pattern.endswith("#") and f"{routing_key}.".startswith(pattern[:-1])


@dataclass(frozen=True, slots=True)
class Topology:
    """All names of one alliance."""

    alliance: str

    def exchange(self, name: str) -> str:
        return f"{self.alliance}.{name}"

    def _queue_name(self, name: str) -> str:
        return f"{self.alliance}.{name}.{GENERATION}"

    def _bind(self, exchange: str, routing_key: str) -> Binding:
        return Binding(self.exchange(exchange), routing_key)

    def reducer(self) -> Queue:
        """The reducers' inbox: the first live one receives, the others stand by."""
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
        """A combiner's inbox. Single active consumer: an old process beside a new one must not share its updates."""
        return Queue(
            self._queue_name(f"combiner.{combiner}"),
            "quorum",
            (self._bind("task", f"plan.{combiner}"), self._bind("update", f"update.{combiner}.#")),
            single_active_consumer=True,
            dead_letter=self.exchange("dead"),
        )

    def client(self, client: str) -> Queue:
        """A client's mailbox, made for it by the reducer. Losing it costs a task sent again, never an update."""
        return Queue(
            self._queue_name(f"client.{client}"),
            "classic",
            (self._bind("assignment", f"assignment.{client}"), self._bind("task", f"task.{client}")),
            expires=MAILBOX_EXPIRES,
        )

    def records(self) -> Queue:
        """All events, on their way into the record store."""
        return Queue(
            self._queue_name("records"), "quorum", (self._bind("event", "event.#"),), dead_letter=self.exchange("dead")
        )

    def dead(self) -> Queue:
        """What could not be decoded or handled, with the reason in its headers."""
        return Queue(self._queue_name("dead"), "quorum", (self._bind("dead", "#"),), max_length=DEAD_LENGTH)

    def observer(self, name: str, routing_key: str = "event.#") -> Queue:
        """A live view's own queue: it goes with its connection, and drops the oldest when the view is slow."""
        return Queue(
            self._queue_name(f"observer.{name}"),
            "classic",
            (self._bind("event", routing_key),),
            max_length=OBSERVER_LENGTH,
            exclusive=True,
        )


def control_key(kind: str) -> str:
    return f"control.{kind}"


def assignment_request_key(sender: str) -> str:
    return f"assignment.{REDUCER}.{sender}"


def assignment_key(client: str) -> str:
    return f"assignment.{client}"


def plan_key(combiner: str) -> str:
    return f"plan.{combiner}"


def task_key(client: str) -> str:
    return f"task.{client}"


def update_key(receiver: str, sender: str) -> str:
    return f"update.{receiver}.{sender}"


def event_key(session: str | None, name: str) -> str:
    return f"event.{session or NO_SESSION}.{name}"


CLIENT_EVENTS = ("message.refused", "actor.error")
"""All that a client tells the alliance itself, and of itself only. What it did is told by its combiner and the reducer."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """RabbitMQ permissions of one account: regular expressions for configure, write and read, and for the routing
    keys that it may write to (and bind from) each topic exchange; an exchange that is not named has no such bound."""

    configure: str
    write: str
    read: str
    topic_write: dict[str, str]
    topic_read: dict[str, str]


def server_permissions(topology: Topology) -> Permissions:
    """Reducers, combiners and dashboards share an account that may do anything within the alliance."""
    everything = f"^{topology.alliance}[.]"
    return Permissions(everything, everything, everything, {}, {})


def client_permissions(topology: Topology, client: str) -> Permissions:
    """A client publishes only as itself and reads only its own mailbox; it declares and binds nothing."""
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
