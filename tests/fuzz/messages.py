"""Messages that one client's account publishes: valid, nearly valid, hostile, and real ones sent again with a change."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from fedmq.codec import JSON, MSGPACK
from fedmq_schemas.messages import VERSION
from fedmq_schemas.routes import ROUTES
from fedmq_schemas.topology import (
    CLIENT_EVENTS,
    assignment_key,
    assignment_request_key,
    event_key,
    task_key,
    update_key,
)
from fuzz.values import FACE, TEXTS, Values, kinds

MOST_SEEN = 300
OWN = tuple(dict.fromkeys(route.kind for route in ROUTES if route.sender == "client"))
"""The kinds of messages that a client sends."""
OPEN = ("metrics", "data", "labels", "seconds", "config")
"""The maps whose keys the sender chooses."""
CONTENT_TYPES = (
    MSGPACK,
    MSGPACK,
    MSGPACK,
    MSGPACK,
    MSGPACK,
    MSGPACK,
    JSON,
    "",
    "text/plain",
    "application/octet-stream",
)


class Sent(NamedTuple):
    """A message as it is published. `copy`: a second routing key, in the header `CC`, which RabbitMQ 3 does not check."""

    exchange: str
    key: str
    body: bytes
    content_type: str
    message_id: str
    copy: str = ""

    def __str__(self) -> str:
        shown = repr(self.body) if len(self.body) < 2000 else f"{self.body[:1000]!r} … ({len(self.body)} bytes)"
        copy = f", CC {self.copy}" if self.copy else ""
        return f"{self.exchange} {self.key!r}{copy}, id {self.message_id[:80]!r}, {self.content_type}: {shown}"


@dataclass(frozen=True, slots=True)
class Names:
    """Who and what is in the alliance. `me`: the client whose account publishes."""

    alliance: str
    me: str
    clients: Sequence[str]
    combiners: Sequence[str]
    sessions: Sequence[str]


def pack(document: Any) -> tuple[bytes, str]:
    """Returns a document as msgpack, or as JSON if msgpack can't hold it; with its content type."""
    try:
        return msgpack.packb(document, unicode_errors="surrogatepass"), MSGPACK
    except (ValueError, OverflowError, TypeError):
        return json.dumps(document, default=repr).encode(), JSON


class Hostile:
    """Draws the messages of one account from one seed. `see` adds a real message, which may be sent again with a change."""

    def __init__(self, seed: int, names: Names) -> None:
        self._source = random.Random(seed)
        self._names = names
        self._seen: dict[str, deque[bytes]] = {}
        self._count = 0
        self.combiner = names.combiners[0]
        """The account's own combiner."""
        self.fields: dict[str, list[Any]] = {
            "session": [*names.sessions, names.sessions[0], "other-session", "nothing"],
            "client": [names.me, names.me, *names.clients, "nobody"],
            "combiner": [*names.combiners, "combiner77"],
            "round": [0, 1, 1, 2, 2, 3, 4, 1_000_000],
            "attempt": [1, 1, 2, 3],
            "part": [0, 0, 1],
            "model": ["models/seed", "models/nothing"],
            "instance": ["", "a", "b", "c"],
            "weight": [1, 2, 7, 32, 500, 2**31, 2**53 - 1],
        }
        self._values = Values(self._source, self.fields)

    def see(self, kind: str, data: bytes) -> None:
        """Remembers a real message of a kind, as msgpack."""
        self._seen.setdefault(kind, deque(maxlen=MOST_SEEN)).append(data)

    def learn(self, name: str, value: Any) -> None:
        """Adds a value that a field may have, such as the key of a model. The latest ones are kept."""
        values = self.fields.setdefault(name, [])
        if value not in values:
            values.append(value)
            del values[: max(0, len(values) - 40)]

    def draw(self) -> Sent:
        """Returns the next message."""
        source, chance = self._source, self._source.random()
        self._count += 1
        message_id = f"fuzz{self._count}"
        kind = source.choice(OWN) if source.random() < 0.85 else source.choice(kinds())
        document = self._replayed(kind) if chance < 0.5 else None
        if document is None:
            document = {"kind": kind, "version": VERSION, "sent_at": 1_767_225_600.0, "body": self._values.body(kind)}
        document |= {"id": message_id, "sender": self._names.me, "alliance": self._names.alliance}
        for _ in range(source.choice([0, 0, 0, 1, 1, 2])):
            self._mutate(document)
        if chance > 0.95:
            document[source.choice(("kind", "version", "id", "cause", "alliance", "sender", "sent_at"))] = (
                self._values.hostile()
            )
        exchange, key = self._address(kind, document)
        copy = self._another(exchange) if source.random() < 0.05 else ""
        if copy and exchange == "update" and source.random() < 0.3:
            key = update_key(source.choice(["a\0b", "x" * 200, "a b", FACE * 40]), self._names.me)
        body, content_type = pack(document)
        if source.random() < 0.04:
            body = self._damaged(body)
        if source.random() < 0.05:
            content_type = source.choice(CONTENT_TYPES)
        if source.random() < 0.02:
            message_id = source.choice([text for text in TEXTS if 0 < len(text.encode(errors="replace")) < 256])
            message_id = message_id.encode(errors="replace").decode()
        return Sent(exchange, key, body, content_type, message_id, copy)

    def _mutate(self, document: dict[str, Any]) -> None:
        body = document.get("body")
        maps = [body[name] for name in OPEN if isinstance(body.get(name), dict)] if isinstance(body, dict) else []
        if maps and self._source.random() < 0.4:
            self._values.mutate(self._source.choice(maps))
        elif isinstance(body, dict | list) and self._source.random() < 0.9:
            self._values.mutate(body)
        else:
            self._values.mutate(document)

    def _replayed(self, kind: str) -> dict[str, Any] | None:
        seen = self._seen.get(kind)
        if not seen:
            return None
        latest = self._source.randrange(1, min(6, len(seen)) + 1)
        data = seen[-latest] if self._source.random() < 0.6 else self._source.choice(seen)
        document: dict[str, Any] = msgpack.unpackb(data)
        return document

    def _address(self, kind: str, document: dict[str, Any]) -> tuple[str, str]:
        """Returns an address to which the account may publish: mostly one for this kind of message."""
        source, me = self._source, self._names.me
        if source.random() < 0.1:
            kind = source.choice(OWN)
        if kind in ("event", "events"):
            body = document.get("body")
            name = source.choice(CLIENT_EVENTS)
            if isinstance(body, dict) and source.random() < 0.8:
                for event in [body, *(body.get("events") or () if isinstance(body.get("events"), list) else ())]:
                    if isinstance(event, dict):
                        event |= {"name": name, "session": None, "combiner": None, "client": source.choice([None, me])}
            return "event", event_key(None, name)
        if kind in ("attach", "inquiry", "combiner_hello", "combiner_presence"):
            return "assignment", assignment_request_key(me)
        receiver = self.combiner if source.random() < 0.8 else source.choice(self._names.combiners)
        if kind in ("validation", "partial"):
            receiver = "reducer"
        return "update", update_key(receiver, me)

    def _another(self, exchange: str) -> str:
        """Returns a key of another member's inbox, for the header `CC`."""
        source, names = self._source, self._names
        client, combiner = source.choice(names.clients), source.choice(names.combiners)
        if exchange == "assignment":
            return source.choice(
                [assignment_key(client), assignment_request_key(client), assignment_request_key(combiner)]
            )
        if exchange == "update":
            return source.choice([update_key(combiner, client), update_key("reducer", combiner), task_key(client)])
        return event_key(names.sessions[0], source.choice(["round.committed", "session.failed", "client.gone"]))

    def _damaged(self, body: bytes) -> bytes:
        source = self._source
        place = source.randrange(max(1, len(body)))
        return source.choice(
            [
                body[:place],
                body[:place] + source.randbytes(source.randrange(1, 5)) + body[place + 1 :],
                body + b"\xc1",
                source.randbytes(source.randrange(300)),
                b"[" * source.randrange(1, 60_000),
                body + b" " * 66_000,
            ]
        )
