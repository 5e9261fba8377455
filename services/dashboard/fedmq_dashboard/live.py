"""The event feed shared between threads: one thread writes, any number of threads wait for news."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from fedmq_dashboard.feed import Document, EventFeed, Revisions, RoundInProgress


class Live:
    """An `EventFeed` behind a lock. `trouble` is the reason why no news arrive, in one sentence, or empty."""

    def __init__(self) -> None:
        self._feed = EventFeed()
        self._changed = threading.Condition()
        self._trouble = ""
        self._closed = False

    def apply(self, events: Iterable[Document]) -> None:
        """Applies events, and wakes the waiting threads if any event is new."""
        with self._changed:
            if self._feed.apply(events):
                self._changed.notify_all()

    def tell_trouble(self, sentence: str) -> None:
        """Sets `trouble`, and wakes the waiting threads if it has changed."""
        with self._changed:
            if sentence != self._trouble:
                self._trouble = sentence
                self._feed.touch()
                self._changed.notify_all()

    @property
    def trouble(self) -> str:
        """The reason why no news arrive; empty if they do."""
        with self._changed:
            return self._trouble

    @property
    def revisions(self) -> Revisions:
        """A copy of the feed's revisions."""
        with self._changed:
            return dict(self._feed.revisions)

    def open_round(self, session: str) -> RoundInProgress | None:
        """Returns a copy of the session's open round."""
        with self._changed:
            return self._feed.open_round(session)

    def wait(self, seen: Revisions, seconds: float) -> Revisions | None:
        """Returns the revisions as soon as they differ from `seen`, or after `seconds`. Returns None once closed."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closed and self._feed.revisions == seen:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return None if self._closed else dict(self._feed.revisions)

    def close(self) -> None:
        """Wakes all waiting threads, for the last time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
