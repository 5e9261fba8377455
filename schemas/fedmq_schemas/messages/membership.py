"""Messages between the reducer, its combiners and their clients about who takes part."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedmq_schemas.bounds import (
    AtLeastOne,
    Clock,
    Count,
    Index,
    LabelMap,
    Listed,
    Name,
    Period,
    Reason,
    Sha256,
    Version,
    Weight,
    Word,
    items,
)
from fedmq_schemas.messages.base import VERSION, Body, Part, TaskName

INSTANCE = r"^[A-Za-z0-9_-]{0,64}$"
Instance = Annotated[str, Field(pattern=INSTANCE, exclude_if=lambda instance: not instance)]
"""A random id that a client draws when its process starts. Not sent by a client of an earlier release."""


Versions = Annotated[tuple[Version, Version], items()]
"""The lowest and the highest supported protocol version."""


class Attach(Body):
    """Requests a combiner (client → reducer).

    Answered by `grant` or `wait`. `weight` is the announced number of examples; it scales the sums of the first round and
    has no other effect. `speaks` holds the lowest and the highest supported protocol version. The fields of this message
    keep their meaning in all versions.
    """

    kind = "attach"
    any_version = True
    labels: LabelMap = Field(default_factory=dict)
    tasks: Annotated[tuple[TaskName, ...], items(8)] = ("train", "validate")
    weight: Weight = 1
    package: Sha256 | None = None
    software: Word = ""
    instance: Instance = ""
    speaks: Versions = (VERSION, VERSION)


class Grant(Body):
    """Assigns a combiner to a client (reducer → client).

    `ordinal` (from 0) and `count` identify the client's share of a data set that all clients hold. `presence` is the
    number of seconds between two `client_presence` messages.
    """

    kind = "grant"
    combiner: Name
    ordinal: Index
    count: AtLeastOne
    presence: Period


class Wait(Body):
    """Reports that no combiner is available (reducer → client).

    The client repeats `attach` after `seconds`. `reason` is text for people. The fields of this message keep their meaning
    in all versions, as it also answers a client of another version.
    """

    kind = "wait"
    any_version = True
    seconds: Period
    reason: Reason


class Inquiry(Body):
    """Requests the reducer's version and time (client → reducer).

    Answered by `about`. Changes nothing, so a program that examines a client's settings may send it in the client's name.
    """

    kind = "inquiry"
    any_version = True


class About(Body):
    """Describes the reducer that decides (reducer → client).

    `speaks` holds the lowest and the highest supported protocol version. The reducer's time is `sent_at` of the envelope.
    The fields of this message keep their meaning in all versions.
    """

    kind = "about"
    any_version = True
    software: Word
    speaks: Versions


class ClientHello(Body):
    """Registers a client with its combiner (client → combiner).

    Sent after a start, a reconnect and a grant. Answered by every `task` that is still open for the client. With `tickets`,
    the client sends `upload` before it uploads an update. Without, its tasks hold the URL, as those of release 0.2.
    """

    kind = "client_hello"
    instance: Instance = ""
    tickets: Annotated[bool, Field(exclude_if=lambda tickets: not tickets)] = False


class ClientPresence(Body):
    """Reports that a client is alive (client → combiner).

    Sent once per presence period, with `leaving` at a clean stop, and with `leaving` and `reassigned` if the client has been
    granted another combiner. A combiner of an earlier release takes the latter for a stop.
    """

    kind = "client_presence"
    leaving: bool = False
    reassigned: Annotated[bool, Field(exclude_if=lambda reassigned: not reassigned)] = False
    instance: Instance = ""


class DuplicateClient(Body):
    """Reports that two processes work under one client's name (combiner → client).

    Sent only to a client that states its `instance`, twice, as the two processes share a mailbox. `continues` is
    the instance that the combiner received from first. The `other` one ends.
    """

    kind = "duplicate_client"
    continues: Annotated[str, Field(pattern=INSTANCE)]
    other: Annotated[str, Field(pattern=INSTANCE)]


class CombinerHello(Body):
    """Registers a combiner (combiner → reducer).

    Sent after a start and a reconnect. Answered by the combiner's open plans, and then by `welcome`.
    """

    kind = "combiner_hello"
    speaks: Versions = (VERSION, VERSION)


class Welcome(Body):
    """Reports that all open plans of a combiner have been sent (reducer → combiner).

    What the combiner holds for any other plan is superseded. A reducer that becomes active also sends it, to
    request a full `combiner_presence`. `presence` is the number of seconds between two of those.
    """

    kind = "welcome"
    epoch: Count
    presence: Period


class Stall(Part):
    """A server that refuses or does not answer, so that work has waited for at least 5 s.

    `store` is `blob_store`, `records` or `broker`. `effect` is the kind of work that is repeated, empty if a check found
    the fault. `since` is UTC seconds since 1970.
    """

    store: Word
    reason: Reason
    effect: Word = ""
    since: Clock


class CombinerPresence(Body):
    """Reports the clients of a combiner (combiner → reducer).

    Sent once per presence period, and at once when clients join or leave. With `full`, `present` lists all clients, at most
    500 per message; `more` is set on all but the last. Otherwise `present` and `gone` list only changes. `clients` is the
    number of present clients. `leaving` is set at a clean stop. `stalls` lists what it waits for; not sent if empty.
    """

    kind = "combiner_presence"
    clients: Index
    present: Listed = ()
    gone: Listed = ()
    full: bool = False
    more: bool = False
    leaving: bool = False
    stalls: Annotated[tuple[Stall, ...], items(32)] = Field((), exclude_if=lambda stalls: not stalls)
