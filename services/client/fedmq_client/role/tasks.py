"""Which task a client runs: one at a time, and of the trainings only the newest. Pure."""

from __future__ import annotations

from typing import NamedTuple

from fedmq.runtime.effects import Effect, StartTimer
from fedmq.runtime.watermarks import Watermarks
from fedmq_client.role.operations import Abandon, RunTask, TaskKey, task_key
from fedmq_schemas.messages import PlanKey, TaskMessage

ABANDON_AFTER = 5.0


def abandon_timer(plan: PlanKey) -> str:
    """Returns the key of the timer after which the work on a cancelled plan is stopped."""
    return f"abandon:{plan}"


class Requested(NamedTuple):
    """A task, and its deadline on the client's monotonic clock: `timeout` seconds after the receipt of the request."""

    task: TaskMessage
    ends: float


class Tasks:
    """The task under way, and those that wait, the next one first.

    `is_cancelled`: whether the combiner no longer awaits an answer to the task under way.
    """

    def __init__(self) -> None:
        self.is_cancelled = False
        self._running: Requested | None = None
        self._stops_at = self._seconds = 0.0
        """The deadline that the work under way was given, and the seconds that it had until then when it began."""
        self._waiting: dict[TaskKey, Requested] = {}
        self._watermarks = Watermarks()

    @property
    def under_way(self) -> TaskMessage | None:
        """The latest request for the work under way."""
        return None if self._running is None else self._running.task

    def is_late(self, plan: PlanKey) -> bool:
        """Returns whether the session is over or a later train plan was requested: only the last one is open."""
        position = (plan.round, plan.attempt, plan.part) if plan.action == "train" else ()
        return self._watermarks.is_superseded(plan.session, position)

    def add(self, task: TaskMessage, now: float) -> list[Effect]:
        """Queues a task, a training before all others. A new request of the task under way replaces the old one."""
        key = task_key(task.plan)
        if self._is_under_way(key):
            self._running, self.is_cancelled = _requested(task, now, self._running), False
            return []
        requested = _requested(task, now, self._waiting.get(key))
        if key.action == "validate":
            self._waiting[key] = requested
            return []
        stopped = self._make_room(key)
        self._waiting.pop(key, None)
        self._waiting = {key: requested, **self._waiting}
        return stopped

    def run_next(self, now: float) -> list[Effect]:
        """Runs the next task, unless one is under way or none waits. One that waited has the time until its deadline."""
        if self._running is not None or not self._waiting:
            return []
        self.is_cancelled = False
        return self._run(self._waiting.pop(next(iter(self._waiting))), now)

    def run_again(self, key: TaskKey, now: float) -> list[Effect]:
        """Runs failed work again, if it began late for its deadline, and a later request gives it more time.

        The deadline of work does not move once it runs. Without this, the later request would fail for the wait of an
        earlier one.
        """
        latest = self._running
        if latest is None or not self._is_under_way(key) or self.is_cancelled:
            return []
        is_postponed = self._stops_at <= now < latest.ends and self._seconds < latest.task.timeout
        return self._run(latest, now) if is_postponed else []

    def of(self, key: TaskKey) -> TaskMessage | None:
        """Returns the latest request for the work under way; None if that is other work."""
        return self.under_way if self._is_under_way(key) else None

    def finish(self, key: TaskKey) -> TaskMessage | None:
        """Returns the latest request for the work that has ended; None if that work had been stopped."""
        if not self._is_under_way(key):
            return None
        task, self._running = self.under_way, None
        return task

    def cancel(self, plan: PlanKey) -> list[Effect]:
        """Removes a plan that waits. If it is under way, its work has five more seconds to end."""
        self._waiting = {key: each for key, each in self._waiting.items() if each.task.plan != plan}
        if self.under_way is None or self.under_way.plan != plan:
            return []
        self.is_cancelled = True
        return [StartTimer(abandon_timer(plan), ABANDON_AFTER)]

    def fired(self, timer: str) -> list[Effect]:
        """Stops the work under way if this is its timer."""
        if self.under_way is None or timer != abandon_timer(self.under_way.plan):
            return []
        return self._stop()

    def end_session(self, session: str) -> list[Effect]:
        """Removes all tasks of a session that is over, and stops the work on one."""
        self._watermarks.end(session)
        self._waiting = {key: each for key, each in self._waiting.items() if key.session != session}
        is_over = self.under_way is not None and self.under_way.plan.session == session
        return self._stop() if is_over else []

    def _make_room(self, newest: TaskKey) -> list[Effect]:
        """Removes trainings of the session's earlier rounds. One under way stops, and waits if of another session."""
        for key in [key for key in self._waiting if key.action == "train" and newest.ends(key)]:
            del self._waiting[key]
        if self._running is None or self._running.task.plan.action != "train":
            return []
        key = task_key(self._running.task.plan)
        if key.session != newest.session:
            self._waiting[key] = self._running
        return self._stop()

    def _is_under_way(self, key: TaskKey) -> bool:
        return self.under_way is not None and task_key(self.under_way.plan) == key

    def _run(self, requested: Requested, now: float) -> list[Effect]:
        self._running, self._stops_at, self._seconds = requested, requested.ends, requested.ends - now
        return [RunTask(*requested)]

    def _stop(self) -> list[Effect]:
        assert self._running is not None
        key, self._running = task_key(self._running.task.plan), None
        return [Abandon(key)]


def _requested(task: TaskMessage, now: float, before: Requested | None) -> Requested:
    """Returns the request with its deadline. A redelivered request does not postpone the deadline of its plan."""
    ends = now + task.timeout
    return Requested(task, min(ends, before.ends) if before is not None and before.task.plan == task.plan else ends)
