"""One line on an open round that stands still: whose answers are awaited, and since when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fedmq.errors import FedMQError
from fedmq_cli.output import duration, local_time

if TYPE_CHECKING:
    from fedmq_client.pool.awaited import AwaitedJob
    from fedmq_client.pool.inline import RunningJob
    from fedmq_schemas.messages import Event

QUIET_SECONDS = 10.0
"""Time without an event after which an open round is looked at."""
PERIOD = 1.0
MOST_NAMES = 5
_JOBS = {
    "init": "the first model",
    "describe": "the answer whether an evaluator scores",
    "compare": "the comparison of the seed with the package's network",
}
_UNBOUNDED = "no deadline stops a trainer with --workers 0: leave --workers out"


class Quiet:
    """Decides when a line is due: after 10 s without an event, or as long as the slowest round so far took.

    That is once an attempt, and once after a commit.

    Rounds that take minutes thus cause a line in the first of them only. Times are seconds of one monotonic clock. Pure.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._patience = QUIET_SECONDS
        self._is_said = False

    def note(self, event: Event, now: float) -> None:
        """Applies an event: the round does not stand still. Presence is not counted."""
        if event.name.startswith(("client.", "combiner.")):
            return
        self._since = now
        if event.name == "round.planned":
            self._is_said = False
        elif event.name == "round.committed":
            self._is_said = False  # the validation of the last model follows
            self._patience = max(self._patience, event.data["seconds"] - event.data.get("resumed_after", 0.0))

    def is_due(self, now: float) -> bool:
        """Returns whether a line is due, and takes it as printed."""
        is_due = not self._is_said and now - self._since >= self._patience
        self._is_said |= is_due
        return is_due


class Awaiting:
    """Looks at the open round while the block runs, and shows a line when one is due. `note` is for any thread.

    - `look`: returns the line, empty if nothing is awaited. An error of it is ignored: the session's own view reports it.
    - `show`: prints a line.
    """

    def __init__(self, look: Callable[[], str], show: Callable[[str], None]) -> None:
        self._look = look
        self._show = show
        self._quiet = Quiet(time.monotonic())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fedmq-awaiting", daemon=True)

    def __enter__(self) -> Awaiting:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def note(self, event: Event) -> None:
        """Applies an event."""
        self._quiet.note(event, time.monotonic())

    def _run(self) -> None:
        while not self._ended.wait(PERIOD):
            if self._quiet.is_due(time.monotonic()):
                with suppress(FedMQError):
                    line = self._look()
                    if line and not self._ended.is_set():
                        self._show(line)


def awaited_text(
    found: Mapping[str, Any] | None, now: float, running: RunningJob | None = None, began: float = 0.0
) -> str:
    """Returns who has not answered the open round, and since when: empty if all have. `now`: UTC seconds since 1970.

    `began`: when this process began to run the session, if it does. It sends the tasks again then, with all of their time.
    `running`: the trainer that this process runs, if it runs them itself. All others wait for it, and it has no deadline.
    """
    awaited = [each["client"] for each in found["clients"] if each["outcome"] is None] if found else []
    if not (found and awaited):
        return f"{place_text(running)}; {_UNBOUNDED}" if running else ""
    pause = max(0.0, began - found["since"])
    text = (
        f"{subject_of(found)}: {len(awaited)} of {len(found['clients'])} clients have not answered since "
        f"{local_time(found['since'] + pause)}: "
    )
    if running is not None:
        others = [name for name in awaited if name != running.client]
        wait = f", and {_names(others)} wait{'s' if len(others) == 1 else ''} behind it" if others else ""
        return f"{text}{place_text(running)}{wait}; {_UNBOUNDED}"
    left = found["deadline"] + (pause if "attempt" in found else 0.0) - now  # that of a validation is recorded anew
    return f"{text}{_names(awaited)}" + (f"; the deadline is in {duration(left)}" if left > 0 else "")


def awaited_jobs_text(jobs: Sequence[AwaitedJob], now: float) -> str:
    """Returns what of a package's jobs before the first round is awaited, since when, where it is, and when it is given up.

    Empty if no job is open. `now`: UTC seconds since 1970.
    """
    return "; ".join(_job_text(job, now) for job in jobs)


def _job_text(job: AwaitedJob, now: float) -> str:
    place = f": {job.client}'s trainer is in {job.place}" if job.place else ""
    left = f"; it is given up in {duration(job.ends - now)}" if job.ends > now else ""
    return f"{_JOBS.get(job.kind, job.kind)} is awaited since {local_time(job.since)}{place}{left}"


def subject_of(found: Mapping[str, Any]) -> str:
    """Returns what is open: `round 2, attempt 3`, or without an `attempt` in `found` the `validation of model 2`."""
    if "attempt" not in found:
        return f"validation of model {found['round']}"
    return f"round {found['round']}" + (f", attempt {found['attempt']}" if found["attempt"] > 1 else "")


def place_text(running: RunningJob) -> str:
    """Returns whose trainer is where: `client2's trainer is in trainer.py:18 in train`."""
    return f"{running.client}'s trainer is in {running.place}"


def _names(clients: Sequence[str]) -> str:
    more = len(clients) - MOST_NAMES
    return ", ".join(clients[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
