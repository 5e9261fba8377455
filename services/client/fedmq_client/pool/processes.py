"""Trainers in warm worker processes: what breaks a worker costs the job that it runs and nothing else.

Each worker has a thread here, which starts its process, gives it one job at a time, enforces the job's deadline, and
starts the process again when it has ended. The thread outlives the process, because the kernel ends a process together
with the thread that started it. A client's jobs are given to the worker that ran the last one, where its data and graph
are warm (affinity), unless that worker is busy and another one is idle. Results do not depend on the worker.

A worker runs one job at a time. If its last job took less than a millisecond, it is sent a batch of jobs, because it
would wait longer for each next job than it works. Jobs behind one that then takes long are given to other workers.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmq.errors import ConfigError
from fedmq.process.settings import without_secrets
from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation, Result, Validated
from fedmq_client.pool import wire
from fedmq_client.pool.devices import environment
from fedmq_client.pool.locating import Locating
from fedmq_client.pool.pooled_jobs import NEVER, PooledJob, broken, finished, starved
from fedmq_client.pool.process import KILLED, WorkerProcess

GRACE = 3.0
"""Seconds that a job has to end by itself after its deadline or its cancellation."""
SLOWEST_RESTART = 5.0
LARGEST_BATCH = 16
QUICK_SECONDS = 0.001
"""A trainer that took less is sent a batch of jobs."""
BATCH_SECONDS = 0.25
"""Seconds of one job after which the jobs behind it in the batch are taken back."""
LONGEST_WAIT = 3600.0
"""Seconds of one wait: the system's timers refuse an infinite one."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Slot:
    """A worker, changed under the pool's lock.

    - `waiting`: jobs of the clients whose last job it ran.
    - `batch`: jobs that its process was sent; the first one runs.
    - `is_quick`: whether its last job took less than QUICK_SECONDS.
    """

    number: int
    environment: Mapping[str, str]
    changed: threading.Condition
    process: WorkerProcess | None = None
    waiting: deque[PooledJob] = field(default_factory=deque)
    batch: deque[PooledJob] = field(default_factory=deque)
    is_idle: bool = False
    is_quick: bool = False


class ProcessPool:
    """A Pool of `workers` processes, started at once; see `environment` for `device` and `threads`.

    A worker's environment has no secret of FedMQ.
    """

    def __init__(self, workers: int = 1, device: str = "auto", threads: int = 0) -> None:
        """Raises ConfigError if there is no worker or no such device."""
        if workers < 1:
            raise ConfigError(f"a pool needs at least one worker, not {workers}")
        self._lock = threading.Lock()
        self._waiting: deque[PooledJob] = deque()
        """Jobs of clients that no worker has run a job of."""
        self._affinity: dict[tuple[Path, str], _Slot] = {}
        self._earlier_end = threading.Condition(self._lock)
        self._next_end = NEVER
        """No waiting job's deadline is earlier."""
        self._closed = False
        base = without_secrets(os.environ)
        self._workers = [
            _Slot(number, environment(base, device, number, workers, threads), threading.Condition(self._lock))
            for number in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"fedmq-worker-{worker.number}", daemon=True)
            for worker in self._workers
        ]
        self._threads.append(threading.Thread(target=self._expire, name="fedmq-pool-deadlines", daemon=True))
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        """Queues the job for its client's last worker, or for any worker if that one is busy."""
        if (fault := wire.fault(job)) is not None:
            _call(on_done, Result(job.id, "failed", reason=fault))
            return
        pooled = PooledJob(job, on_validation, on_progress, on_done, time.monotonic() + job.timeout)
        with self._lock:
            if self._closed:
                raise ConfigError("the pool is closed")
            worker = self._affinity.get(pooled.trainer)
            (self._waiting if worker is None else worker.waiting).append(pooled)
            self._wake_idle((worker,) if worker is not None and worker.is_idle else self._workers)
            if pooled.locate_at < self._next_end:
                self._next_end = pooled.locate_at
                self._earlier_end.notify()

    def cancel(self, job_id: str) -> None:
        """Cancels the job. One that runs and does not end within GRACE seconds is killed with its worker."""
        with self._lock:
            waiting = self._remove(lambda pooled: pooled.job.id == job_id)
            for worker in self._workers:
                for pooled in worker.batch:
                    if pooled.job.id == job_id and worker.process is not None:
                        pooled.cancelled = True
                        worker.process.wake()
        for pooled in waiting:
            _call(pooled.on_done, Result(job_id, "cancelled", reason="cancelled"))

    def locate(self, job_id: str) -> None:
        """Makes `on_progress` report the job's place soon, also of one whose C code holds the interpreter's lock."""
        with self._lock:
            queues = (self._waiting, *(worker.waiting for worker in self._workers))
            waiting = [pooled for queue in queues for pooled in queue if pooled.job.id == job_id]
            place = self._queue_place()
            for worker in self._workers:
                if worker.batch and worker.batch[0].job.id == job_id and worker.process is not None:
                    worker.batch[0].is_wanted = True
                    worker.process.wake()
        for pooled in waiting:
            _call(pooled.on_progress, job_id, 0.0, {}, place)

    def close(self, timeout: float = 10.0) -> None:
        """Kills all workers, and waits up to `timeout` seconds for their end."""
        with self._lock:
            self._closed = True
            self._remove(lambda pooled: True)
            processes = [worker.process for worker in self._workers if worker.process is not None]
            for condition in (self._earlier_end, *(worker.changed for worker in self._workers)):
                condition.notify_all()
        ends = time.monotonic() + timeout
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(max(0.0, ends - time.monotonic()))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))

    def worker_pids(self) -> list[int]:
        """Returns the process ids of the workers that run now."""
        with self._lock:
            processes = [worker.process for worker in self._workers]
        return [process.pid for process in processes if process is not None and process.ended is None]

    # -- jobs that wait -----------------------------------------------------------------------------------------------

    def _remove(self, which: Callable[[PooledJob], bool]) -> list[PooledJob]:
        removed = []
        for queue in (self._waiting, *(worker.waiting for worker in self._workers)):
            found = [pooled for pooled in queue if which(pooled)]
            for pooled in found:
                queue.remove(pooled)
            removed += found
        return removed

    def _expire(self) -> None:
        """Fails waiting jobs at their deadline, until the pool is closed. Reports before that for whom they wait."""
        while not self._closed:
            with self._lock:
                now = time.monotonic()
                late = self._remove(lambda pooled: pooled.ends <= time.monotonic())
                waiting = [
                    each for queue in (self._waiting, *(each.waiting for each in self._workers)) for each in queue
                ]
                due = [pooled for pooled in waiting if pooled.locate_at <= now]
                for pooled in due:
                    pooled.place = self._queue_place()
                self._next_end = min((min(pooled.ends, pooled.locate_at) for pooled in waiting), default=NEVER)
                if not late and not due and not self._closed:
                    self._earlier_end.wait(min(max(0.0, self._next_end - time.monotonic()), LONGEST_WAIT))
            for pooled in due:
                _call(pooled.on_progress, pooled.job.id, 0.0, {}, pooled.place)
            for pooled in late:
                _call(pooled.on_done, starved(pooled))

    def _queue_place(self) -> str:
        running = sorted({worker.batch[0].job.client.name for worker in self._workers if worker.batch})
        named = " and ".join(running[:2]) + (f" and {len(running) - 2} more" if len(running) > 2 else "")
        return f"the queue for a worker, behind {named}" if named else "the queue for a worker"

    def _wake_idle(self, workers: Iterable[_Slot]) -> None:
        """Makes one of `workers` look for a job, if one of them is idle."""
        for worker in workers:
            if worker.is_idle:
                worker.is_idle = False
                worker.changed.notify()
                return

    def _next_batch(self, worker: _Slot, process: WorkerProcess) -> bool:
        """Waits for the worker's next jobs. Returns False once its process is not usable or the pool is closed."""
        with self._lock:
            while not worker.batch and not self._closed and process.is_usable:
                busy = [other.waiting for other in self._workers if other.batch or other.process is None]
                queues = [queue for queue in (worker.waiting, self._waiting, *busy) if queue]
                if not queues:
                    worker.is_idle = True
                    worker.changed.wait()
                    worker.is_idle = False
                else:
                    size = min(len(queues[0]), LARGEST_BATCH) if worker.is_quick else 1
                    worker.batch.extend(queues[0].popleft() for _ in range(size))
                    self._affinity |= dict.fromkeys((pooled.trainer for pooled in worker.batch), worker)
            if self._waiting or any(other.waiting for other in self._workers):
                # One idle worker was woken for all the jobs that were taken back at once, or while no other was busy.
                self._wake_idle(self._workers)
        return bool(worker.batch) and not self._closed

    # -- a worker's thread --------------------------------------------------------------------------------------------

    def _serve(self, worker: _Slot) -> None:
        false_starts = 0
        while not self._closed:
            self._pause(worker, min(0.1 * 2**false_starts, SLOWEST_RESTART) if false_starts else 0.0)
            process = self._start(worker)
            if process is None:
                false_starts += 1
                continue
            is_reported = False
            while self._next_batch(worker, process):
                self._run(worker, process)
                is_reported = not process.is_usable  # by the result of the job that it ended with
            with self._lock:
                worker.process, worker.is_quick = None, False
            false_starts = 0 if process.ready else false_starts + 1
            if process.spoilt:
                process.kill()
            if not self._closed:
                how = (
                    f"can't be restored: a trainer changed {process.spoilt}"
                    if process.spoilt
                    else process.ended or KILLED
                )
                level = logging.INFO if is_reported and not process.spoilt else logging.WARNING
                log.log(level, "worker %d %s; starting it again", worker.number, how)

    def _pause(self, worker: _Slot, seconds: float) -> None:
        ends = time.monotonic() + seconds
        with self._lock:
            while not self._closed and (left := ends - time.monotonic()) > 0:
                worker.changed.wait(left)

    def _start(self, worker: _Slot) -> WorkerProcess | None:
        def ended() -> None:
            with self._lock:
                worker.changed.notify_all()

        try:
            process = WorkerProcess(worker.environment, ended)
        except OSError as error:
            log.error("worker %d can't be started: %s", worker.number, error)
            process = None
        with self._lock:
            worker.process = process
            closed = self._closed
        if process is not None and closed:
            process.kill()
        return process

    def _run(self, worker: _Slot, process: WorkerProcess) -> None:
        """Runs the worker's batch and calls its callbacks."""
        now = time.monotonic()
        numbers = process.send_jobs([(pooled.job, max(0.0, pooled.ends - now)) for pooled in worker.batch])
        while worker.batch:
            result = self._run_first(worker, process, numbers)
            with self._lock:
                if self._closed:
                    return
                pooled = worker.batch.popleft()
                worker.is_quick = sum(result.seconds.values()) < QUICK_SECONDS
            numbers = numbers[1:]
            if not process.is_usable:
                self._take_back(worker, len(worker.batch))
            _call(pooled.on_done, result)

    def _run_first(self, worker: _Slot, process: WorkerProcess, numbers: list[int]) -> Result:
        """Returns the result of the batch's first job. `numbers`: of the batch's jobs."""
        pooled = worker.batch[0]
        take_back_at = time.monotonic() + BATCH_SECONDS
        cancel_at, kill_at, timed_out = pooled.ends, NEVER, False
        pooled.place = ""  # it may have waited in the queue until now
        locating = Locating(process, pooled, numbers[0])
        while True:
            now = time.monotonic()
            if len(worker.batch) == 1:
                take_back_at = NEVER
            elif now >= take_back_at:
                process.cancel(numbers[1:])
                self._take_back(worker, len(worker.batch) - 1)
            if (located := locating.act(now)) is not None:
                pooled.place = located[-1]
                _call(pooled.on_progress, pooled.job.id, *located)
            if cancel_at < NEVER and (pooled.cancelled or now >= cancel_at):
                timed_out = not pooled.cancelled
                cancel_at, kill_at = NEVER, now + GRACE
                process.cancel(numbers[:1])
            if now >= kill_at:
                kill_at = NEVER
                process.kill()
            due = min(take_back_at, locating.next_at, cancel_at, kill_at)
            message = process.receive(min(max(0.0, due - now), LONGEST_WAIT))
            if message is None:
                continue
            if "ended" in message:
                return broken(process, pooled, numbers[0], timed_out)
            if message["number"] != numbers[0]:
                continue  # of a job that was taken back
            if "validated" in message:
                pooled.is_validated = True
                _call(pooled.on_validation, Validated(**message["validated"]))
            elif "progress" in message:
                locating.answered(*message["progress"][1:3])
                pooled.place = message["progress"][-1] or pooled.place
                _call(pooled.on_progress, *message["progress"])
            else:
                process.spoilt = message["spoilt"]
                return finished(Result(**message["result"]), process, pooled, numbers[0], timed_out)

    def _take_back(self, worker: _Slot, count: int) -> None:
        """Lets the last `count` jobs of the worker's batch wait again, before all others."""
        with self._lock:
            for _ in range(count):
                worker.waiting.appendleft(worker.batch.pop())
            cancelled = self._remove(lambda pooled: pooled.cancelled)
            self._next_end = -NEVER
            self._earlier_end.notify()
            self._wake_idle(self._workers)
        for pooled in cancelled:
            _call(pooled.on_done, Result(pooled.job.id, "cancelled", reason="cancelled"))


def _call(callback: Callable[..., Any], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except Exception:
        log.exception("a pool's callback failed")
