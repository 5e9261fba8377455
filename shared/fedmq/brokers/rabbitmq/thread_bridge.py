"""Passes callbacks to another thread, with one wake-up for all that are waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Callback = Callable[[], None]


class ThreadBridge:
    """A queue of callbacks from one thread to another, in order. `wake(callback)` runs a callback on the other thread."""

    __slots__ = ("_waiting", "_wake", "_woken")

    def __init__(self, wake: Callable[[Callback], None]) -> None:
        self._wake = wake
        self._waiting: deque[Callback] = deque()
        self._woken = False

    def put(self, callback: Callback) -> None:
        """Runs the callback on the other thread."""
        # Appended before the flag is read, and the flag cleared before the length is: so no callback is left waiting.
        self._waiting.append(callback)
        if not self._woken:
            self._woken = True
            self._wake(self._run)

    def _run(self) -> None:
        self._woken = False
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
