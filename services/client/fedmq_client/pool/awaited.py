"""Jobs whose results a caller waits for, with the place in its code that each of them has reached."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fedmq.value import value
from fedmq_client.job.job import Job, JobKind, OnValidation, Pool, Result

ANSWER_SECONDS = 1.0
"""Longest time that `look` waits for the places of jobs."""


@value
class AwaitedJob:
    """A job that has not ended. `since` and `ends`, its deadline: UTC seconds since 1970. `place`: empty if unknown."""

    client: str
    kind: JobKind
    since: float
    ends: float
    place: str = ""


class AwaitedJobs:
    """The open jobs of one caller in a pool. For any thread."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changed = threading.Condition()
        self._open: dict[str, AwaitedJob] = {}

    def submit(self, job: Job, on_validation: OnValidation = lambda _: None) -> queue.SimpleQueue[Result]:
        """Submits the job, and returns the queue that receives its result. Raises ConfigError if the pool is closed."""
        results: queue.SimpleQueue[Result] = queue.SimpleQueue()

        def note(_: str, __: float, ___: dict[str, Any], place: str) -> None:
            self._note(job.id, lambda found: replace(found, place=place or found.place))

        def end(result: Result) -> None:
            with self._changed:
                self._open.pop(job.id, None)
                self._changed.notify_all()
            results.put(result)

        now = time.time()
        with self._changed:
            self._open[job.id] = AwaitedJob(job.client.name, job.kind, now, now + job.timeout)
        self._pool.submit(job, on_validation, note, end)
        return results

    def look(self) -> list[AwaitedJob]:
        """Returns the open jobs, in the order of their submission. Waits up to a second for their places."""
        with self._changed:
            names = list(self._open)
        for name in names:
            self._note(name, lambda found: replace(found, place=""))
            self._pool.locate(name)
        with self._changed:
            self._changed.wait_for(lambda: all(each.place for each in self._open.values()), ANSWER_SECONDS)
            return list(self._open.values())

    def _note(self, name: str, change: Callable[[AwaitedJob], AwaitedJob]) -> None:
        with self._changed:
            if (found := self._open.get(name)) is not None:
                self._open[name] = change(found)
                self._changed.notify_all()
