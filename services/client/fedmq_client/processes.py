"""Trainers in warm worker processes: what breaks one costs its own job and nothing else.

Each worker has a thread here, which gives it one job at a time, enforces its deadline and starts it
again when it has ended. That thread outlives the worker, as the kernel ends a worker with the thread
that started it. A client's jobs go to the worker that ran its last one, where its data and graph
are warm, unless that one is busy and another is not. Results don't depend on which it is.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmq.errors import ConfigError
from fedmq_client import wire
from fedmq_client.child import Child
from fedmq_client.devices import environment
from fedmq_client.pool import Job, OnDone, OnProgress, OnValidation, Result

GRACE = 3.0
"""Seconds that a job has to end by itself after its deadline or its cancellation."""
SLOWEST_RESTART = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Ticket:
    job: Job
    on_validation: OnValidation
    on_progress: OnProgress
    on_done: OnDone
    ends: float
    cancelled: bool = False

    @property
    def home(self) -> tuple[Path, str]:
        return (self.job.package, self.job.client.name)


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    environment: dict[str, str]
    child: Child | None = None
    ticket: _Ticket | None = None
    false_starts: int = 0


class ProcessPool:
    """A Pool of `workers` processes, started at once; see `environment` for device and threads."""

    def __init__(self, workers: int = 1, device: str = "auto", threads: int = 0) -> None:
        """Raises ConfigError if there is no worker or no such device."""
        if workers < 1:
            raise ConfigError(f"a pool needs at least one worker, not {workers}")
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._homes: dict[tuple[Path, str], _Worker] = {}
        self._closed = False
        self._workers = [
            _Worker(number, environment(os.environ, device, number, workers, threads)) for number in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"fedmq-worker-{worker.number}", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        ends = time.monotonic() + job.timeout
        with self._changed:
            if self._closed:
                raise ConfigError("the pool is closed")
            self._waiting.append(_Ticket(job, on_validation, on_progress, on_done, ends))
            self._changed.notify_all()

    def cancel(self, job_id: str) -> None:
        """A running job that does not end within GRACE seconds is killed with its worker; for a
        waiting one `on_done` is called here and now."""
        with self._changed:
            waiting = [ticket for ticket in self._waiting if ticket.job.id == job_id]
            for ticket in waiting:
                self._waiting.remove(ticket)
            for worker in self._workers:
                if worker.ticket is not None and worker.ticket.job.id == job_id:
                    worker.ticket.cancelled = True
            self._changed.notify_all()
        for ticket in waiting:
            _call(ticket.on_done, Result(job_id, "cancelled", reason="cancelled"))

    def close(self, timeout: float = 10.0) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            children = [worker.child for worker in self._workers if worker.child is not None]
            self._changed.notify_all()
        ends = time.monotonic() + timeout
        for child in children:
            child.kill()
        for child in children:
            child.wait(max(0.0, ends - time.monotonic()))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))

    def worker_pids(self) -> list[int]:
        """Of the workers that run now."""
        with self._changed:
            return [
                worker.child.pid for worker in self._workers if worker.child is not None and worker.child.ended is None
            ]

    def _serve(self, worker: _Worker) -> None:
        while not self._closed:
            if worker.child is None or worker.child.ended is not None:
                self._start(worker)
                continue
            ticket = self._take(worker)
            if ticket is None:
                continue
            result = self._perform(worker, worker.child, ticket)
            with self._changed:
                worker.ticket = None
                # Others may be waiting for this worker to be busy no more, or for its clients.
                self._changed.notify_all()
            if result is not None:
                _call(ticket.on_done, result)

    def _start(self, worker: _Worker) -> None:
        if worker.child is not None:
            log.warning("worker %d %s; starting it again", worker.number, worker.child.ended)
            worker.false_starts = 0 if worker.child.ready else worker.false_starts + 1
        if worker.false_starts:
            pause = min(0.1 * 2**worker.false_starts, SLOWEST_RESTART)
            self._wait_until(time.monotonic() + pause, lambda: False)
        try:
            child = Child(worker.environment, self._changed)
        except OSError as error:
            log.error("worker %d can't be started: %s", worker.number, error)
            worker.child = None
            worker.false_starts += 1
            return
        with self._changed:
            worker.child = child
            closed = self._closed
        if closed:
            child.kill()

    def _take(self, worker: _Worker) -> _Ticket | None:
        """The next job for an idle worker; None when it ended, or the pool is closed."""
        child = worker.child
        assert child is not None
        found: list[_Ticket] = []

        def wanted() -> bool:
            if child.ended is not None:
                return True
            ticket = self._choose(worker)
            if ticket is None:
                return False
            self._waiting.remove(ticket)
            self._homes[ticket.home] = worker
            worker.ticket = ticket
            found.append(ticket)
            return True

        self._wait_until(None, wanted)
        return found[0] if found else None

    def _choose(self, worker: _Worker) -> _Ticket | None:
        unplaced = stranded = None
        for ticket in self._waiting:
            home = self._homes.get(ticket.home)
            if home is worker:
                return ticket
            if home is None:
                unplaced = unplaced or ticket
            elif home.ticket is not None or home.child is None or home.child.ended is not None:
                stranded = stranded or ticket
        return unplaced or stranded

    def _perform(self, worker: _Worker, child: Child, ticket: _Ticket) -> Result | None:
        """Run one job to its end, whatever that is; None when the pool is closed."""
        job = ticket.job
        child.forget_output()
        child.send({"job": replace(job, timeout=max(0.0, ticket.ends - time.monotonic()))})
        asked = timed_out = False
        kill_at = ticket.ends + GRACE

        def stirred() -> bool:
            return bool(child.messages or child.ended or (ticket.cancelled and not asked))

        while not self._closed:
            self._wait_until(kill_at if asked else ticket.ends, stirred)
            if child.messages:
                result = _hear(child.messages.popleft(), ticket)
                if result is not None:
                    return self._finished(result, child, ticket, timed_out)
            elif child.ended is not None:
                return _broken(child, ticket, timed_out)
            elif not asked:
                asked, timed_out = True, not ticket.cancelled
                kill_at = time.monotonic() + GRACE
                child.send({"cancel": job.id})
            elif time.monotonic() >= kill_at:
                child.kill()
                kill_at = float("inf")
        return None

    def _finished(self, result: Result, child: Child, ticket: _Ticket, timed_out: bool) -> Result:
        if result.outcome == "cancelled" and timed_out:
            return replace(result, outcome="failed", reason=_too_long(ticket))
        if result.outcome == "failed":
            output = child.output(ticket.job.id)
            return replace(result, traceback=_with_output(result.traceback, output))
        return result

    def _wait_until(self, when: float | None, ready: Callable[[], bool]) -> None:
        """Wait for `ready` (asked with the lock held), for the time, or for the pool's closing.

        Whoever waits also tells the jobs whose time ran out in the queue.
        """
        while True:
            with self._changed:
                now = time.monotonic()
                late = [ticket for ticket in self._waiting if ticket.ends <= now]
                for ticket in late:
                    self._waiting.remove(ticket)
                if not late:
                    if self._closed or ready() or (when is not None and now >= when):
                        return
                    ends = [ticket.ends for ticket in self._waiting]
                    next_time = min([*ends, *([] if when is None else [when])], default=None)
                    timeout = None if next_time is None else min(next_time - now, 3600.0)
                    self._changed.wait(timeout)
            for ticket in late:
                reason = f"no worker was free within {ticket.job.timeout:g} s"
                _call(ticket.on_done, Result(ticket.job.id, "failed", reason=reason))


def _hear(message: wire.Message, ticket: _Ticket) -> Result | None:
    if "result" in message:
        return wire.result(message["result"])
    if "validated" in message:
        _call(ticket.on_validation, wire.validated(message["validated"]))
    else:
        fraction, metrics = message["progress"]
        _call(ticket.on_progress, ticket.job.id, fraction, metrics)
    return None


def _broken(child: Child, ticket: _Ticket, timed_out: bool) -> Result:
    if ticket.cancelled and not timed_out:
        return Result(ticket.job.id, "cancelled", reason="cancelled; its worker had to be killed")
    reason = _too_long(ticket) if timed_out else f"the worker process {child.ended}"
    return Result(
        ticket.job.id,
        "failed",
        reason=reason,
        traceback=_with_output("", child.output(ticket.job.id)),
    )


def _too_long(ticket: _Ticket) -> str:
    return f"{ticket.job.kind} took longer than its {ticket.job.timeout:g} s"


def _with_output(traceback: str, output: str) -> str:
    if not output:
        return traceback
    return f"{traceback}--- last lines of output ---\n{output}\n"


def _call(callback: Callable[..., Any], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except Exception:
        log.exception("a pool's callback failed")
