"""Makes a list of messages that fail as short as it can, and then the messages themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack

from fedmq.codec import MSGPACK
from fuzz.messages import Sent

Timed = tuple[float, Sent]
MOST_TRIES = 200


def smallest(messages: Sequence[Timed], fails: Callable[[Sequence[Timed]], bool]) -> Sequence[Timed]:
    """Returns messages of which none can be left out, and whose fields can't be, without `fails` being false.

    Halves, then quarters and so on are left out (delta debugging, Zeller 1999). Stops after `MOST_TRIES` trials.
    """
    tries = iter(range(MOST_TRIES))
    found, parts = list(messages), 2
    while len(found) > 1 and next(tries, None) is not None:
        size = -(-len(found) // parts)
        for start in range(0, len(found), size):
            if next(tries, None) is None:
                return found
            rest = found[:start] + found[start + size :]
            if fails(rest):
                found, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(found), 2 * parts)
    for number, (at, message) in enumerate(found):
        simpler: Sent | None = message
        while simpler is not None and next(tries, None) is not None:
            found[number] = at, simpler
            simpler = _simpler(simpler, lambda each, n=number, t=at: fails(_with(found, n, t, each)))  # type: ignore[misc]
    return found


def _with(found: Sequence[Timed], number: int, at: float, message: Sent) -> list[Timed]:
    return [*found[:number], (at, message), *found[number + 1 :]]


def _simpler(message: Sent, fails: Callable[[Sent], bool]) -> Sent | None:
    """Returns the first simpler message that fails too: without one of its fields."""
    if message.content_type != MSGPACK:
        return None
    try:
        document = msgpack.unpackb(message.body)
    except ValueError:
        return None
    for simpler in _without_one(document):
        candidate = message._replace(body=msgpack.packb(simpler))
        if fails(candidate):
            return candidate
    return None


def _without_one(document: Any) -> Iterator[Any]:
    """Yields the document without one of the fields of its maps, or of the items of its lists."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield {name: inner for name, inner in document.items() if name != key}
            for simpler in _without_one(value):
                yield {**document, key: simpler}
    elif isinstance(document, list):
        for number in range(min(len(document), 10)):
            yield document[:number] + document[number + 1 :]
