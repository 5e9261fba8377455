"""What a process waits for: servers that refuse, or that do not answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from fedmq.errors import Transient
from fedmq_schemas.limits import safe
from fedmq_schemas.messages import Stall

STALLED_AFTER = 5.0
"""Seconds after which what is retried, or not answered, is a stall."""


class Stalls:
    """Notes what is retried or not answered, from any thread. `wall` returns UTC seconds since 1970.

    `retries` counts failed attempts by type of effect and store. A note belongs to a key, such as one effect under way. It
    counts as a stall once it is 5 s old.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.retries: Counter[tuple[str, str]] = Counter()
        self._wall = wall
        self._lock = threading.Lock()
        self._notes: dict[object, Stall] = {}

    def note(self, key: object, store: str, reason: str, effect: str = "", ago: float = 0.0) -> None:
        """Notes that `key` is not done since `ago` seconds. A later note of the same key replaces the reason only."""
        with self._lock:
            known = self._notes.get(key)
            since = self._wall() - ago if known is None else known.since
            self._notes[key] = Stall(store=store, reason=safe(reason)[:1000], effect=effect, since=max(0.0, since))

    def retry(self, key: object, effect: str, error: Transient) -> None:
        """Counts a failed attempt at an effect, which will be repeated, and notes it."""
        self.retries[effect, error.store] += 1
        self.note(key, error.store, error.reason, effect)

    def end(self, key: object) -> None:
        """Forgets the note of `key`, if there is one: it is done, or given up."""
        if key in self._notes:
            with self._lock:
                self._notes.pop(key, None)

    def current(self) -> Sequence[Stall]:
        """Returns the oldest stall of each store, sorted by store."""
        oldest = {stall.store: stall for stall in reversed(self._stalled())}
        return [oldest[store] for store in sorted(oldest)]

    def of(self, store: str) -> Stall | None:
        """Returns the oldest stall of this store, or None."""
        return next((stall for stall in self._stalled() if stall.store == store), None)

    def unanswered(self, store: str) -> Stall | None:
        """Returns the stall that a check of this store has found, or None. A store that refuses writes may answer checks."""
        return next((stall for stall in self._stalled() if stall.store == store and not stall.effect), None)

    def _stalled(self) -> list[Stall]:
        """Returns all stalls, the oldest first."""
        before = self._wall() - STALLED_AFTER
        with self._lock:
            found = [stall for stall in self._notes.values() if stall.since <= before]
        return sorted(found, key=lambda stall: stall.since)


def describe(stall: Stall) -> str:
    """Returns a stall as text: its reason, and since when."""
    return f"{stall.reason}, {since(stall)}"


def since(stall: Stall) -> str:
    """Returns when a stall began as text: `since 14:05:31 UTC`."""
    return f"since {datetime.fromtimestamp(stall.since, UTC):%H:%M:%S} UTC"
