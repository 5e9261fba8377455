"""A job in a pool of processes, from its submission to its result."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fedmq_client.checks import GIVE_A_FILE
from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation, Result
from fedmq_client.packages.package import MANIFEST, PackageError, load
from fedmq_client.pool.crash import crash_in
from fedmq_client.pool.output import with_output
from fedmq_client.pool.process import WorkerProcess

NEVER = float("inf")
CRASH_SIGNALS = re.compile(r"\bSIG(SEGV|BUS|FPE|ABRT|ILL)\b")
"""Signals at which Python's faulthandler prints where C code crashed. Only then is that text of the worker itself."""
METHODS: Mapping[str, str] = {"describe": "the import or the constructor", "compare": "init"}
"""What jobs call whose kind is not the name of the trainer's method."""
LOCATE_SECONDS = 1.0
"""Seconds before its deadline, or a tenth of its time, when a job's place is requested: early enough for its combiner."""


@dataclass(slots=True, eq=False)
class PooledJob:
    """A job that was submitted.

    - `ends`: its deadline on the monotonic clock.
    - `place`: where its trainer was when that was last reported, which is shortly before the deadline at the latest.
    - `is_wanted`: whether its place was requested and its worker was not asked yet.
    - `is_validated`: whether a training's validation of the received model has ended.
    """

    job: Job
    on_validation: OnValidation
    on_progress: OnProgress
    on_done: OnDone
    ends: float
    cancelled: bool = False
    place: str = ""
    is_wanted: bool = False
    is_validated: bool = False

    @property
    def locate_at(self) -> float:
        """When its place is to be reported, on the monotonic clock; NEVER once it was."""
        return NEVER if self.place else self.ends - min(LOCATE_SECONDS, self.job.timeout / 10)

    @property
    def method(self) -> str:
        """What of the trainer's code runs, such as `train of trainer.py`, as far as that is known without its worker."""
        is_either = self.job.kind == "train" and self.job.validate and not self.is_validated
        method = "validate or train" if is_either else METHODS.get(self.job.kind, self.job.kind)
        return f"{method} of {_file(self.job.package)}"

    @property
    def trainer(self) -> tuple[Path, str]:
        """The package and the client, which a trainer is built for."""
        return (self.job.package, self.job.client.name)


def finished(result: Result, process: WorkerProcess, pooled: PooledJob, number: int, timed_out: bool) -> Result:
    """Returns the result of a job that its worker has ended. `timed_out`: it was cancelled at its deadline."""
    if result.outcome == "cancelled" and timed_out:
        return replace(_too_long(pooled), seconds=result.seconds, notes=result.notes, plain_notes=result.plain_notes)
    if result.outcome == "failed":
        return replace(result, traceback=with_output(result.traceback, process.output(number)))
    return result


def broken(process: WorkerProcess, pooled: PooledJob, number: int, timed_out: bool) -> Result:
    """Returns the result of a job whose worker has ended with it."""
    if pooled.cancelled and not timed_out:
        return Result(pooled.job.id, "cancelled", reason="cancelled; its worker had to be killed")
    output = process.output(number)
    if timed_out:
        return replace(_too_long(pooled), traceback=with_output("", output))
    crash = crash_in(output, pooled.job.package) if CRASH_SIGNALS.search(process.ended or "") else None
    ended = f"the worker process {process.ended}"
    if crash is None or not crash.places:
        ended += f" in {pooled.method}{_end_remedy(process.ended or '')}"
    result = Result(pooled.job.id, "failed", reason=ended, plain=ended)
    if crash is None:
        return replace(result, traceback=with_output("", output))
    if crash.places:
        result = replace(result, reason=f"{ended}; it was in {crash.places[-1]}", frames="\n".join(crash.places))
    return replace(result, traceback=with_output(crash.traceback, crash.printed))


def starved(pooled: PooledJob) -> Result:
    """Returns the result of a job that no worker was free for until its deadline."""
    plain = f"no worker was free within {_seconds(pooled.job.timeout)}{_waited(pooled)}{_remedy(pooled)}"
    return Result(pooled.job.id, "failed", reason=plain, plain=plain)


def _too_long(pooled: PooledJob) -> Result:
    words, place, remedy = (
        f"{pooled.job.kind} took longer than its {_seconds(pooled.job.timeout)}{_waited(pooled)}",
        pooled.place,
        _remedy(pooled),
    )
    plain = words + remedy
    reason = f"{words}; it was in {place}{remedy}" if place else plain
    return Result(pooled.job.id, "failed", reason=reason, plain=plain, frames=place)


def _end_remedy(ended: str) -> str:
    if "exit code" in ended:
        return ": find what ends the process there, such as os._exit or C code"
    return ": use less memory there, or fewer workers" if "SIGKILL" in ended else ""


def _file(package: Path) -> str:
    try:
        return load(package).file
    except PackageError:  # the folder may have changed since the job began
        return MANIFEST


def _waited(pooled: PooledJob) -> str:
    """Returns what else has used up the time of the job's task, if that is much of it."""
    waited = pooled.job.waited
    return f" (its task had waited {_seconds(waited)} behind another one)" if waited > pooled.job.timeout / 10 else ""


def _seconds(seconds: float) -> str:
    """Returns the seconds with three significant digits: the time left of a task has an odd fraction."""
    return f"{float(f'{seconds:.3g}'):g} s"


def _remedy(pooled: PooledJob) -> str:
    if pooled.job.kind == "init":
        return f"; if it is only slow, {GIVE_A_FILE}"
    if pooled.job.kind not in ("train", "validate"):
        return ""
    setting = "timeout" if pooled.job.kind == "train" else "validation_timeout"
    return f"; if trainers are only slow, raise `{setting}`"
