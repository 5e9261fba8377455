"""Trainers in warm worker processes: what breaks one costs its own job and nothing else.

Each worker has a thread here, which hands it jobs, enforces the deadline of the one that runs and
starts it again when it has ended. That thread outlives the worker, as the kernel ends a worker with
the thread that started it. A client's jobs go to the worker that ran its last one, where its data
and graph are warm, unless that one is busy and another is not. Results don't depend on which it is.

A worker runs one job at a time. Where jobs are so short that it would wait for the next one it is
handed some ahead, for 20 ms of work (`handed`). Those that it has not come to go back if it ends,
or if the one before them takes long; should it have begun them just then, what it makes of them is
left aside.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmq.errors import ConfigError
from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation, Result
from fedmq_client.pool import wire
from fedmq_client.pool.devices import environment
from fedmq_client.pool.handed import Worker
from fedmq_client.pool.process import Child
from fedmq_client.pool.queue import NEVER, Ticket, Waiting

GRACE = 3.0
"""Seconds that a job has to end by itself after its deadline or its cancellation."""
SLOWEST_RESTART = 5.0
TAKEN_BACK_AFTER = 0.25

log = logging.getLogger(__name__)


class ProcessPool:
    """A Pool of `workers` processes, started at once; see `environment` for device and threads."""

    def __init__(self, workers: int = 1, device: str = "auto", threads: int = 0) -> None:
        """Raises ConfigError if there is no worker or no such device."""
        if workers < 1:
            raise ConfigError(f"a pool needs at least one worker, not {workers}")
        self._lock = threading.Lock()
        self._waiting = Waiting(workers)
        self._homes: dict[tuple[Path, str], Worker] = {}
        self._closed = False
        self._workers = [
            Worker(number, environment(os.environ, device, number, workers, threads), threading.Condition(self._lock))
            for number in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"fedmq-worker-{worker.number}", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        ticket = Ticket(job, on_validation, on_progress, on_done, time.monotonic() + job.timeout)
        with self._lock:
            if self._closed:
                raise ConfigError("the pool is closed")
            home = self._homes.get(ticket.home)
            is_soonest = ticket.ends < self._waiting.next_end
            self._waiting.add(ticket, None if home is None else home.number)
            if is_soonest:
                self._wake()
            elif home is not None and home.is_hungry:
                home.is_hungry = False
                home.changed.notify_all()
            elif home is None or home.is_stuck:
                self._wake_one()

    def cancel(self, job_id: str) -> None:
        """A running job that does not end within GRACE seconds is killed with its worker; for a
        waiting one `on_done` is called here and now."""
        with self._lock:
            waiting = self._waiting.drop(lambda ticket: ticket.job.id == job_id)
            for worker in self._workers:
                for ticket in worker.sent:
                    if ticket.job.id == job_id:
                        ticket.cancelled = True
                        worker.changed.notify_all()
        for ticket in waiting:
            _call(ticket.on_done, Result(job_id, "cancelled", reason="cancelled"))

    def close(self, timeout: float = 10.0) -> None:
        with self._lock:
            self._closed = True
            self._waiting.drop(lambda ticket: True)
            children = [worker.child for worker in self._workers if worker.child is not None]
            self._wake()
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
        with self._lock:
            return [worker.child.pid for worker in self._workers if worker.child is not None and worker.is_alive]

    # -- what waits, under the lock -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        for worker in self._workers:
            worker.is_hungry = False
            worker.changed.notify_all()

    def _wake_one(self) -> None:
        """Somebody who would take a job, rather one who has nothing to do."""
        for worker in sorted(self._workers, key=lambda worker: len(worker.sent)):
            if worker.is_hungry:
                worker.is_hungry = False
                worker.changed.notify_all()
                return

    def _next(self, worker: Worker, child: Child) -> deque[Ticket] | None:
        """The queue to take from now; None if there is no room, or nothing that it may have."""
        if not worker.has_room:
            return None
        stuck = () if worker.sent else (other.number for other in self._workers if other.is_stuck)
        queue = self._waiting.queue_for(worker.number, stuck)
        if queue and (not worker.sent or child.jobs.is_light(queue[0].job)):
            return queue
        return None

    # -- a worker's thread --------------------------------------------------------------------------------------------

    def _serve(self, worker: Worker) -> None:
        while not self._closed:
            child = worker.child
            if child is None or child.ended is not None:
                if child is not None:
                    self._bury(worker, child)
                self._start(worker)
            else:
                self._hand_over(worker, child)
                self._attend(worker, child)

    def _start(self, worker: Worker) -> None:
        if worker.child is not None:
            log.warning("worker %d %s; starting it again", worker.number, worker.child.ended)
            worker.false_starts = 0 if worker.child.ready else worker.false_starts + 1
        if worker.false_starts:
            self._pause(worker, min(0.1 * 2**worker.false_starts, SLOWEST_RESTART))
        try:
            child = Child(worker.environment, worker.changed)
        except OSError as error:
            log.error("worker %d can't be started: %s", worker.number, error)
            worker.child = None
            worker.false_starts += 1
            return
        with self._lock:
            worker.child, worker.pace = child, NEVER
            closed = self._closed
        if closed:
            child.kill()

    def _pause(self, worker: Worker, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._closed and (left := ends - time.monotonic()) > 0:
            with self._lock:
                worker.changed.wait(max(0.0, min(left, self._waiting.next_end - time.monotonic())))
                late = self._waiting.take_late(time.monotonic())
            _tell_late(late)

    def _hand_over(self, worker: Worker, child: Child) -> None:
        data = []
        with self._lock:
            while (queue := self._next(worker, child)) is not None:
                ticket = queue.popleft()
                self._homes[ticket.home] = worker
                if not worker.sent:
                    worker.turn()
                data.append(child.jobs.encoded(ticket.job, max(0.0, ticket.ends - time.monotonic())))
                worker.sent.append(ticket)
                worker.sent_bytes += len(data[-1])
            if self._waiting.has_own(worker.number):
                self._wake_one()
        if data:
            child.send(b"".join(data))

    def _attend(self, worker: Worker, child: Child) -> None:
        """Waits for something to happen, and deals with it."""
        with self._lock:
            late = self._wait(worker, child)
            messages, child.messages = child.messages, []
        _tell_late(late)
        for message in messages:
            self._hear(worker, child, message)
        if messages or self._closed or child.ended is not None or not worker.sent:
            return
        job = worker.sent[0]
        now = time.monotonic()
        if len(worker.sent) > 1 and now >= worker.began + TAKEN_BACK_AFTER:
            self._take_back(worker, child)
        elif not worker.asked and (job.cancelled or now >= job.ends):
            worker.asked, worker.timed_out, worker.kill_at = True, not job.cancelled, now + GRACE
            child.send(wire.encoded({"cancel": job.job.id}))
        elif worker.asked and now >= worker.kill_at:
            child.kill()
            worker.kill_at = NEVER

    def _wait(self, worker: Worker, child: Child) -> list[Ticket]:
        """Returns, with the lock held, as soon as the worker's thread has something to do; those who are late."""
        while not self._closed and not child.messages and child.ended is None:
            late = self._waiting.take_late(time.monotonic())
            if late or self._next(worker, child) is not None:
                return late
            now, when = time.monotonic(), self._waiting.next_end
            if worker.sent:
                running = worker.sent[0]
                limit = worker.kill_at if worker.asked else now if running.cancelled else running.ends
                if len(worker.sent) > 1:
                    limit = min(limit, worker.began + TAKEN_BACK_AFTER)
                if now >= limit:
                    return []
                when = min(when, limit)
            worker.is_hungry = worker.has_room
            worker.changed.wait(min(max(0.0, when - now), 3600.0))
            worker.is_hungry = False
        return []

    def _hear(self, worker: Worker, child: Child, message: wire.PoolMessage) -> None:
        child.results += "result" in message
        if not worker.sent or message["job"] != worker.sent[0].job.id:
            return  # of a job that was taken back
        ticket = worker.sent[0]
        if "validated" in message:
            _call(ticket.on_validation, wire.validated(message["validated"]))
        elif "progress" in message:
            fraction, metrics = message["progress"]
            _call(ticket.on_progress, ticket.job.id, fraction, metrics)
        else:
            result = wire.result(message["result"])
            timed_out = worker.timed_out
            with self._lock:
                worker.sent.popleft()
                worker.turn()
                worker.pace = message["took"] if worker.pace == NEVER else max(message["took"], 0.9 * worker.pace)
            _call(ticket.on_done, _finished(result, child, ticket, timed_out))

    def _bury(self, worker: Worker, child: Child) -> None:
        """The worker is gone: its job has failed, and those that it had not come to wait again."""
        with self._lock:
            messages, child.messages = child.messages, []
        for message in messages:
            self._hear(worker, child, message)
        if not worker.sent:
            return
        timed_out = worker.timed_out
        with self._lock:
            self._waiting.put_back(worker.give_back(), worker.number)
            ticket = worker.sent.popleft()
            worker.turn()
        _call(ticket.on_done, _broken(child, ticket, timed_out))

    def _take_back(self, worker: Worker, child: Child) -> None:
        with self._lock:
            returned = worker.give_back()
            self._waiting.put_back(returned, worker.number)
            self._wake_one()
        child.send(b"".join(wire.encoded({"take_back": ticket.job.id}) for ticket in returned))


def _finished(result: Result, child: Child, ticket: Ticket, timed_out: bool) -> Result:
    if result.outcome == "cancelled" and timed_out:
        return replace(result, outcome="failed", reason=_too_long(ticket))
    if result.outcome == "failed":
        return replace(result, traceback=_with_output(result.traceback, child.output()))
    return result


def _tell_late(late: list[Ticket]) -> None:
    for ticket in late:
        reason = f"no worker was free within {ticket.job.timeout:g} s"
        _call(ticket.on_done, Result(ticket.job.id, "failed", reason=reason))


def _broken(child: Child, ticket: Ticket, timed_out: bool) -> Result:
    if ticket.cancelled and not timed_out:
        return Result(ticket.job.id, "cancelled", reason="cancelled; its worker had to be killed")
    reason = _too_long(ticket) if timed_out else f"the worker process {child.ended}"
    return Result(
        ticket.job.id,
        "failed",
        reason=reason,
        traceback=_with_output("", child.last_output()),
    )


def _too_long(ticket: Ticket) -> str:
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
