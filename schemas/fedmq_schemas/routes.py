"""Routes of all messages: sender, receiver, address and answers. Pure data.

`topology` declares the queues and their bindings. The AsyncAPI document is generated from both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fedmq_schemas import topology

SenderRole = Literal["starter", "client", "combiner", "reducer", "records"]

ROLES: dict[SenderRole, str] = {
    "starter": "starts sessions: a person, the REST API or the command line",
    "client": "trains and validates on its private data",
    "combiner": "folds the updates of its clients",
    "reducer": "coordinates sessions; one reducer is active at a time",
    "records": "the queue of all events to be recorded; observers receive the same events",
}

PARAMETERS: dict[str, str] = {
    "client": "the client's name",
    "combiner": "the combiner's name",
    "session": f"the session's id, or {topology.NO_SESSION!r} for an event of no session",
    "name": "the event's name, in two words: `round.committed`",
}
"""Parameters of addresses, in braces there. All but `name` are one word of a routing key; see `topology.is_name`."""


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one kind of message from one role to another.

    `key` is the routing key, with parameters in braces. `answers` are the kinds of messages that answer this one.
    """

    kind: str
    sender: SenderRole
    receiver: SenderRole
    exchange: str
    key: str
    answers: tuple[str, ...] = ()

    def matches(self, routing_key: str) -> bool:
        """Whether messages with this routing key take this route."""
        return _pattern(self.key).fullmatch(routing_key) is not None


@cache
def _pattern(key: str) -> re.Pattern[str]:
    word = dict.fromkeys(PARAMETERS, r"[^.]+") | {"name": r"[^.]+\.[^.]+"}
    parts = re.split(r"\{(\w+)\}", key)
    return re.compile("".join(word[part] if number % 2 else re.escape(part) for number, part in enumerate(parts)))


_TO_REDUCER_FROM_CLIENT = topology.assignment_request_key("{client}")
_TO_REDUCER_FROM_COMBINER = topology.assignment_request_key("{combiner}")
_TO_CLIENT = topology.assignment_key("{client}")
_PLAN, _TASK = topology.plan_key("{combiner}"), topology.task_key("{client}")
_UPDATE = topology.update_key("{combiner}", "{client}")
_RESULT_OF_COMBINER = topology.update_key(topology.REDUCER, "{combiner}")
_RESULT_OF_CLIENT = topology.update_key(topology.REDUCER, "{client}")
_EVENT = topology.event_key("{session}", "{name}")

_EMITTERS: tuple[SenderRole, ...] = ("reducer", "combiner", "client")

ROUTES: tuple[Route, ...] = (
    Route("start", "starter", "reducer", "control", topology.control_key("start"), ("event",)),
    Route("stop", "starter", "reducer", "control", topology.control_key("stop"), ("event",)),
    Route("forget", "starter", "reducer", "control", topology.control_key("forget"), ("event",)),
    Route("forget_session", "starter", "reducer", "control", topology.control_key("forget_session"), ("event",)),
    Route("attach", "client", "reducer", "assignment", _TO_REDUCER_FROM_CLIENT, ("grant", "wait")),
    Route("grant", "reducer", "client", "assignment", _TO_CLIENT, ("client_hello",)),
    Route("wait", "reducer", "client", "assignment", _TO_CLIENT, ("attach",)),
    Route("inquiry", "client", "reducer", "assignment", _TO_REDUCER_FROM_CLIENT, ("about",)),
    Route("about", "reducer", "client", "assignment", _TO_CLIENT),
    Route("combiner_hello", "combiner", "reducer", "assignment", _TO_REDUCER_FROM_COMBINER, ("plan", "welcome")),
    Route("combiner_presence", "combiner", "reducer", "assignment", _TO_REDUCER_FROM_COMBINER),
    Route("welcome", "reducer", "combiner", "task", _PLAN, ("combiner_presence",)),
    Route("plan", "reducer", "combiner", "task", _PLAN, ("partial",)),
    Route("void_plan", "reducer", "combiner", "task", _PLAN),
    Route("task", "combiner", "client", "task", _TASK, ("upload", "update", "decline", "validation")),
    Route("cancel", "combiner", "client", "task", _TASK),
    Route("update_outcome", "combiner", "client", "task", _TASK),
    Route("ticket", "combiner", "client", "task", _TASK, ("update",)),
    Route("duplicate_client", "combiner", "client", "task", _TASK),
    Route("client_hello", "client", "combiner", "update", _UPDATE, ("task",)),
    Route("client_presence", "client", "combiner", "update", _UPDATE),
    Route("progress", "client", "combiner", "update", _UPDATE),
    Route("upload", "client", "combiner", "update", _UPDATE, ("ticket",)),
    Route("update", "client", "combiner", "update", _UPDATE),
    Route("decline", "client", "combiner", "update", _UPDATE),
    Route("partial", "combiner", "reducer", "update", _RESULT_OF_COMBINER),
    Route("progress", "combiner", "reducer", "update", _RESULT_OF_COMBINER),
    Route("validation", "client", "reducer", "update", _RESULT_OF_CLIENT),
    *(Route(kind, sender, "records", "event", _EVENT) for kind in ("event", "events") for sender in _EMITTERS),
)
