"""Runs trainers in the caller's thread, for tests, simulation and debugging. Nothing contains one that hangs or exits.

While a trainer works, its package's folder is the process's current one, and the environment has no secret of FedMQ, for
other threads too.
"""

import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from fedmq.errors import ConfigError
from fedmq.value import value
from fedmq_client.job.job import Job, JobKind, OnDone, OnProgress, OnValidation
from fedmq_client.job.place import place_in
from fedmq_client.job.run import Hooks, run
from fedmq_client.job.trainers import Trainers

log = logging.getLogger(__name__)


@value
class RunningJob:
    """A job that runs in this process. `place`: where in its code the trainer is, such as `trainer.py:18 in train`."""

    client: str
    kind: JobKind
    place: str


class InlinePool:
    """A Pool whose `submit` returns when the job has ended and its callbacks have returned."""

    def __init__(self, on_quit: Callable[[], None] | None = None) -> None:
        """Calls `on_quit`, if there is one, when the user leaves the debugger in a trainer. Runs no job after that."""
        self._trainers = Trainers()
        self._on_quit = on_quit
        self._running: tuple[Job, int] | None = None
        """The job, and its thread."""
        self._cancelled: set[str] = set()
        self._closed = False

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        """Runs the job now. The trainer sees the timeout, but nothing enforces it."""
        from fedmq.process.settings import secrets_hidden  # a package's environment may lack what settings need

        if self._closed:
            raise ConfigError("the pool is closed")
        if self._trainers.has_quit and self._on_quit:  # which ends the thread that waits for results
            return

        def progress(fraction: float, metrics: dict[str, Any]) -> None:
            on_progress(job.id, fraction, metrics, "")

        self._running = job, threading.get_ident()
        try:
            hooks = Hooks(on_validation, progress, lambda: job.id in self._cancelled)
            with secrets_hidden():
                result = run(job, self._trainers, hooks)
        finally:
            self._running = None
            self._cancelled.discard(job.id)
        if self._trainers.has_quit and self._on_quit:
            self._on_quit()
        if self._trainers.spoilt:
            log.warning("a trainer changed %s of this process for good", ", ".join(self._trainers.spoilt))
            self._trainers.spoilt.clear()
        on_done(result)

    def cancel(self, job_id: str) -> None:
        """Makes the trainer's next `task.check()` raise. Only a callback can call this while a job runs."""
        if self._running is not None and self._running[0].id == job_id:
            self._cancelled.add(job_id)

    def locate(self, job_id: str) -> None:
        """Does nothing: `running` returns the place of a job."""

    def running(self, frame: FrameType | None = None) -> RunningJob | None:
        """Returns the job that runs now, or None. For any thread, and for signal handlers: it takes no lock.

        `frame`: where the job's thread is, if the caller knows it.
        """
        if (running := self._running) is None:
            return None
        job, thread = running
        innermost = frame or sys._current_frames().get(thread)
        return None if innermost is None else RunningJob(job.client.name, job.kind, place_in(job.package, innermost))

    def close(self, timeout: float = 10.0) -> None:
        """Rejects all further jobs."""
        self._closed = True
        self._trainers.close()
