"""The clock port: one thread that runs callbacks in order, and timers on a monotonic clock.

Every actor belongs to a scheduler, and only the scheduler's thread calls it, so no actor needs a lock. Other threads
(pika's, a worker's, a pool's) call it through `post`. `ThreadScheduler` runs in real time; `VirtualScheduler` jumps from
timer to timer, for simulation and tests.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

Callback = Callable[[], None]
OnWorkDone = Callable[[Any, Exception | None], None]


@dataclass(slots=True, eq=False)
class Timer:
    """A callback that is due at a time of the scheduler's clock."""

    callback: Callback
    cancelled: bool = False

    def cancel(self) -> None:
        """Prevents the callback, unless it has run. Idempotent."""
        self.cancelled = True


class Scheduler(Protocol):
    """Time and threads, as actors and adapters use them."""

    def now(self) -> float:
        """Returns seconds on a monotonic clock."""

    def wall(self) -> float:
        """Returns UTC seconds since 1970, for records and people."""

    def post(self, callback: Callback) -> None:
        """Runs the callback on the scheduler's thread, after all that were posted before; from any thread."""

    def later(self, seconds: float, callback: Callback) -> Timer:
        """Runs the callback once, not before `seconds` have passed; from the scheduler's thread only."""

    def submit(self, work: Callable[[], Any], done: OnWorkDone) -> None:
        """Runs `work()` elsewhere, then `done(result, error)` here. In virtual time `work` runs inline."""


def run_work(work: Callable[[], Any], done: OnWorkDone) -> Callback:
    """Runs `work` and returns the callback that reports its result or exception."""
    try:
        result = work()
    except Exception as error:  # reported to the actor, which decides
        failure = error
        return lambda: done(None, failure)
    return lambda: done(result, None)


class ThreadScheduler:
    """Real time. `run` blocks the calling thread until `stop`. `threads`: how much work `submit` runs in parallel."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def __init__(self, threads: int = 4) -> None:
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._wake = threading.Event()
        self._thread: int | None = None
        """The thread that is in `run`."""
        self._stopping = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="effects")

    def post(self, callback: Callback) -> None:
        """Wakes `run` if it is called on another thread."""
        self._ready.append(callback)
        if threading.get_ident() != self._thread:
            self._wake.set()

    def later(self, seconds: float, callback: Callback) -> Timer:
        """Timers of the same time run in the order of these calls."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now() + max(0.0, seconds), next(self._order), timer))
        return timer

    def submit(self, work: Callable[[], Any], done: OnWorkDone) -> None:
        """Runs the work on one of the helper threads."""
        self._pool.submit(lambda: self.post(run_work(work, done)))

    def run(self) -> None:
        """Runs callbacks until `stop`. An exception of a callback ends the run and is raised."""
        self._stopping = False
        self._thread = threading.get_ident()
        ready = self._ready
        while not self._stopping:
            self._fire_due()
            for _ in range(len(ready)):
                ready.popleft()()
                if self._stopping:
                    return
            if not ready:
                self._wake.clear()
                if not ready and not self._stopping:
                    self._wake.wait(self._until_next())

    def stop(self) -> None:
        """Makes `run` return after the current callback; safe from any thread and from signal handlers."""
        self._stopping = True
        self._wake.set()

    def close(self) -> None:
        """Ends the helper threads. Work that has not started is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fire_due(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.callback()

    def _until_next(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None


class VirtualScheduler:
    """Virtual time: `run` runs what is ready, then jumps to the next timer. Fully deterministic."""

    EPOCH = 1_767_225_600.0
    """1 January 2026."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Returns the virtual time, 0 at first."""
        return self._now

    def wall(self) -> float:
        """Returns the virtual time since `EPOCH`."""
        return self.EPOCH + self._now

    def post(self, callback: Callback) -> None:
        """Runs the callback in `settle` or `run`."""
        self._ready.append(callback)

    def later(self, seconds: float, callback: Callback) -> Timer:
        """Timers of the same time run in the order of these calls."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self._now + max(0.0, seconds), next(self._order), timer))
        return timer

    def submit(self, work: Callable[[], Any], done: OnWorkDone) -> None:
        """Runs the work inline."""
        self.post(run_work(work, done))

    def settle(self) -> None:
        """Runs all that is ready now, without letting time pass."""
        while self._ready:
            self._ready.popleft()()

    def run(self, until: Callable[[], bool] = lambda: False, limit: float = float("inf")) -> bool:
        """Runs until `until()` is true. Returns False if nothing is left, or time would pass `limit`."""
        while not until():
            if self._ready:
                self._ready.popleft()()
            elif self._timers and self._timers[0][0] <= limit:
                when, _, timer = heapq.heappop(self._timers)
                if not timer.cancelled:
                    self._now = max(self._now, when)
                    timer.callback()
            else:
                return False
        return True
