"""Logs what a role waits for, and reports it on `/health`: a role that waits in silence looks like one that works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedmq.runtime.actor import Observe
from fedmq.runtime.effects import CoreEvent, Effect
from fedmq.scheduler import Scheduler

log = logging.getLogger("fedmq.waits")

LONG = 30.0
"""Seconds after which a wait is a warning."""


@dataclass(frozen=True, slots=True)
class RoleWait:
    """What a role waits for, in words. `remedy`: what to do if it lasts; "" if the wait is no fault, however long."""

    reason: str
    remedy: str = ""


class WaitLog:
    """Logs each wait at info when it begins and ends, and at warning once it has lasted 30 s, if there is a remedy.

    An observer of an actor: it asks `waits_for` after each step of the core. Runs on the scheduler's thread, except
    `report`.
    """

    def __init__(self, scheduler: Scheduler, waits_for: Callable[[], RoleWait | None]) -> None:
        self._scheduler = scheduler
        self._waits_for = waits_for
        self._wait: RoleWait | None = None
        self._since = 0.0

    def __call__(self, event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        """Compares the wait with the one before this step."""
        found = self._waits_for()
        if found == self._wait:
            return
        before, self._wait, self._since = self._wait, found, self._scheduler.now()
        if found is None:
            log.info("waits no longer", extra={"reason": "" if before is None else before.reason})
            return
        log.info("waits", extra={"reason": found.reason})
        if found.remedy:
            self._scheduler.later(LONG, lambda: self._warn(found))

    def report(self) -> str:
        """Returns what the role waits for now, since when, and the remedy; "" for nothing. From any thread."""
        wait, seconds = self._wait, self._scheduler.now() - self._since
        if wait is None:
            return ""
        return f"{wait.reason} for {seconds:.0f} s{f': {wait.remedy}' if wait.remedy and seconds >= LONG else ''}"

    def _warn(self, wait: RoleWait) -> None:
        if self._wait is wait:
            log.warning("waits", extra={"reason": self.report()})


def observe_all(*observers: Observe) -> Observe:
    """Returns an observer that calls each of these."""

    def observe(event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        for each in observers:
            each(event, answer, cause)

    return observe
