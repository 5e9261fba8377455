"""The timers of an actor, each with a key."""

from __future__ import annotations

from collections.abc import Callable

from fedmq.scheduler import Scheduler, Timer


class Timers:
    """Calls `fired` with the key of each timer that ends. A key has one timer: a new one cancels the one before."""

    def __init__(self, scheduler: Scheduler, fired: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._fired = fired
        self._timers: dict[str, Timer] = {}

    def start(self, key: str, seconds: float) -> None:
        """Starts a timer, on the scheduler's thread."""
        self.cancel(key)

        def fire() -> None:
            if self._timers.get(key) is timer:
                del self._timers[key]
                self._fired(key)

        timer = self._scheduler.later(seconds, fire)
        self._timers[key] = timer

    def cancel(self, key: str) -> None:
        """Cancels a timer, if there is one."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def clear(self) -> None:
        """Cancels all timers."""
        for key in list(self._timers):
            self.cancel(key)
