"""The feed, shared between threads: one writes, any number wait for news."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from fedmq_dashboard.feed import Document, EventFeed, Revisions, RoundInProgress


class Live:
    """An `EventFeed` behind a lock. `trouble` is why there is no news, in one sentence, or empty."""

    def __init__(self) -> None:
        self._feed = EventFeed()
        self._changed = threading.Condition()
        self._trouble = ""
        self._closed = False

    def apply(self, events: Iterable[Document]) -> None:
        with self._changed:
            if self._feed.apply(events):
                self._changed.notify_all()

    def tell_trouble(self, sentence: str) -> None:
        with self._changed:
            if sentence != self._trouble:
                self._trouble = sentence
                self._feed.touch()
                self._changed.notify_all()

    @property
    def trouble(self) -> str:
        with self._changed:
            return self._trouble

    @property
    def revisions(self) -> Revisions:
        with self._changed:
            return dict(self._feed.revisions)

    def open_round(self, session: str) -> RoundInProgress | None:
        with self._changed:
            return self._feed.open_round(session)

    def wait(self, seen: Revisions, seconds: float) -> Revisions | None:
        """The revisions as soon as they differ from those `seen`, or after so many seconds; None once it is closed."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closed and self._feed.revisions == seen:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return None if self._closed else dict(self._feed.revisions)

    def close(self) -> None:
        """Lets everybody who waits go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
