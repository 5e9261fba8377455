"""Where in its code a worker's job is: from the worker itself, or from its stack if C code holds the interpreter's lock."""

from __future__ import annotations

from typing import Any

from fedmq_client.pool.pooled_jobs import LOCATE_SECONDS, NEVER, PooledJob
from fedmq_client.pool.process import WorkerProcess

DUMP_AFTER = 0.4
"""The part of the time to answer after which a worker's stack is requested."""
REPORT_AFTER = 0.7
"""The part after which that stack is reported. A worker that is only slow answers before."""
HELD = ", in C code that holds the interpreter"


class Locating:
    """Locates one job of a worker, before its deadline and whenever that is wanted."""

    def __init__(self, process: WorkerProcess, pooled: PooledJob, number: int) -> None:
        self._process = process
        self._pooled = pooled
        self._number = number
        self._progress: tuple[float, dict[str, Any]] = (0.0, {})
        self._locate_at = pooled.locate_at
        self._dump_at = NEVER
        self._report_at = NEVER

    @property
    def next_at(self) -> float:
        """When `act` has something to do next, on the monotonic clock."""
        return min(self._locate_at, self._dump_at, self._report_at)

    def act(self, now: float) -> tuple[float, dict[str, Any], str] | None:
        """Requests what is due. Returns fraction, metrics and place of a job whose worker does not answer."""
        if now >= self._locate_at or self._pooled.is_wanted:
            self._locate_at = NEVER if now >= self._locate_at else self._locate_at
            self._pooled.is_wanted = False
            self._process.locate(self._number)
            answer_seconds = min(LOCATE_SECONDS, self._pooled.job.timeout / 10)
            self._dump_at, self._report_at = now + DUMP_AFTER * answer_seconds, now + REPORT_AFTER * answer_seconds
        if now >= self._dump_at:
            self._dump_at = NEVER
            self._process.dump_stack()
        if now < self._report_at:
            return None
        self._report_at = NEVER
        if not self._process.ready:
            return None
        place = self._process.dumped_place(self._pooled.job.package)
        text = f"{place}{HELD}" if place else f"{self._pooled.method}{HELD}, so the line is unknown"
        return *self._progress, text

    def answered(self, fraction: float, metrics: dict[str, Any]) -> None:
        """Notes that Python code of the worker ran, and what it reported."""
        self._progress = fraction, metrics
        self._dump_at = self._report_at = NEVER
