"""A count of changes that several threads may wait for."""

from __future__ import annotations

import threading

WAIT_SECONDS = 0.5
"""One wait of the caller's thread. A wait without a bound misses Ctrl-C if another thread receives the signal."""


class ChangeCount:
    """Counts what may have made a round new, and the end of the session. A count, so that several loops can wait."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def note(self) -> None:
        """Counts a change."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, seen: int) -> None:
        """Waits until more has changed than `seen`."""
        with self._changed:
            while self.count == seen:
                self._changed.wait(WAIT_SECONDS)
