"""Which task a client runs: one at a time, and of the trainings only the newest. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import Effect, StartTimer
from fedmq.runtime.watermarks import Watermarks
from fedmq_client.role.operations import Abandon, RunTask, TaskKey, task_key
from fedmq_schemas.messages import PlanKey, TaskMessage

ABANDON_AFTER = 5.0


def abandon_timer(plan: PlanKey) -> str:
    """Returns the key of the timer after which the work on a cancelled plan is stopped."""
    return f"abandon:{plan}"


class Tasks:
    """The task under way, and those that wait, the next one first.

    `is_cancelled`: whether the combiner no longer awaits an answer to the task under way.
    """

    def __init__(self) -> None:
        self.under_way: TaskMessage | None = None
        self.is_cancelled = False
        self._waiting: dict[TaskKey, TaskMessage] = {}
        self._watermarks = Watermarks()

    def is_late(self, plan: PlanKey) -> bool:
        """Returns whether the session is over or a later train plan was requested: only the last one is open."""
        position = (plan.round, plan.attempt, plan.part) if plan.action == "train" else ()
        return self._watermarks.is_superseded(plan.session, position)

    def add(self, task: TaskMessage) -> list[Effect]:
        """Queues a task, a training before all others. A new request of the task under way replaces the old one."""
        key = task_key(task.plan)
        if self._is_under_way(key):
            self.under_way, self.is_cancelled = task, False
            return []
        if key.action == "validate":
            self._waiting[key] = task
            return []
        stopped = self._make_room(key)
        self._waiting.pop(key, None)
        self._waiting = {key: task, **self._waiting}
        return stopped

    def run_next(self) -> list[Effect]:
        """Runs the next task, unless one is under way or none waits."""
        if self.under_way is not None or not self._waiting:
            return []
        self.under_way, self.is_cancelled = self._waiting.pop(next(iter(self._waiting))), False
        return [RunTask(self.under_way)]

    def of(self, key: TaskKey) -> TaskMessage | None:
        """Returns the latest request for the work under way; None if that is other work."""
        return self.under_way if self._is_under_way(key) else None

    def finish(self, key: TaskKey) -> TaskMessage | None:
        """Returns the latest request for the work that has ended; None if that work had been stopped."""
        if not self._is_under_way(key):
            return None
        task, self.under_way = self.under_way, None
        return task

    def cancel(self, plan: PlanKey) -> list[Effect]:
        """Removes a plan that waits. If it is under way, its work has five more seconds to end."""
        self._waiting = {key: task for key, task in self._waiting.items() if task.plan != plan}
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
        self._waiting = {key: task for key, task in self._waiting.items() if key.session != session}
        is_over = self.under_way is not None and self.under_way.plan.session == session
        return self._stop() if is_over else []

    def _make_room(self, newest: TaskKey) -> list[Effect]:
        """Removes trainings of the session's earlier rounds. One under way stops, and waits if of another session."""
        for key in [key for key in self._waiting if key.action == "train" and newest.ends(key)]:
            del self._waiting[key]
        task = self.under_way
        if task is None or task.plan.action != "train":
            return []
        if task.plan.session != newest.session:
            self._waiting[task_key(task.plan)] = task
        return self._stop()

    def _is_under_way(self, key: TaskKey) -> bool:
        return self.under_way is not None and task_key(self.under_way.plan) == key

    def _stop(self) -> list[Effect]:
        assert self.under_way is not None
        key, self.under_way = task_key(self.under_way.plan), None
        return [Abandon(key)]
