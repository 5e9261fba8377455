"""Callbacks on their way to another thread, with one wake-up for however many are waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Callback = Callable[[], None]


class ThreadBridge:
    """`wake(callback)` has the other thread run a callback soon. One thread puts, the other runs; order is kept."""

    __slots__ = ("_wake", "_waiting", "_woken")

    def __init__(self, wake: Callable[[Callback], None]) -> None:
        self._wake = wake
        self._waiting: deque[Callback] = deque()
        self._woken = False

    def put(self, callback: Callback) -> None:
        # Appended before the flag is read, and the flag cleared before the length is: so nothing is left behind.
        self._waiting.append(callback)
        if not self._woken:
            self._woken = True
            self._wake(self._run)

    def _run(self) -> None:
        self._woken = False
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
