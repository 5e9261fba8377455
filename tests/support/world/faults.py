"""What can go wrong in a simulated world, and when."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fedmq.brokers.base import Outgoing

NO_FAULT = (0.0,)


class Crash(BaseException):
    """Ends the running process at once. Not an Exception: no code under test may catch it."""


@dataclass(frozen=True, slots=True)
class FaultAtStep:
    """What happens to a process at its `step`-th step, counted over all its lives.

    crash: it dies, and is started again `seconds` later. pause: it stands still for `seconds` (SIGSTOP). cut: its link
    to the broker breaks for `seconds`.
    """

    process: str
    step: int
    kind: Literal["crash", "pause", "cut"]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """A process stands still for `seconds` just before its first store call whose name begins with `call` ("insert
    rounds"); the call takes place when it goes on."""

    process: str
    call: str
    seconds: float


@dataclass(slots=True)
class Network:
    """The `Faults` of a `MemoryBroker`, from a seeded source: of each message `delays`, `duplicates` and `losses` are
    the probabilities, until the time `until`; `longest` bounds how late a copy is."""

    source: random.Random
    now: Callable[[], float]
    delays: float = 0.0
    duplicates: float = 0.0
    losses: float = 0.0
    longest: float = 5.0
    until: float = float("inf")

    def on_publish(self, message: Outgoing) -> Sequence[float]:
        if self.now() >= self.until:
            return NO_FAULT
        chance = self.source.random()
        if chance < self.losses:
            return ()
        chance -= self.losses
        if chance < self.duplicates:
            return (0.0, self.source.random() * self.longest)
        return (self.source.random() * min(self.longest, 2.0),) if chance - self.duplicates < self.delays else NO_FAULT


@dataclass(slots=True)
class StoreFaults:
    """When a store is away: in these spans of time each call is `Transient`, and elsewhere with probability `flakes`,
    half of the time after the call has done its work."""

    spans: tuple[tuple[float, float], ...] = ()
    flakes: float = 0.0
    until: float = float("inf")

    def is_away(self, now: float) -> bool:
        return any(start <= now < end for start, end in self.spans)
