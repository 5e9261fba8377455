"""Keeps what a client needs between tasks and after a restart: finished updates, `task.state` and local tensors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from fedmq.errors import InvalidUpdate
from fedmq_client.job.job import Blob
from fedmq_client.personal.folder import SESSIONS
from fedmq_client.personal.kept_state import KeptState, choose, described, local_shapes
from fedmq_client.role.operations import TaskKey, TaskResult
from fedmq_schemas.messages import PersonalStart, TaskMessage

BEFORE = 0
"""The round of the state with which a session begins."""


class Store(Protocol):
    """Finished updates and states, by task. The newest state of a session outlives it: it is filed, within bounds."""

    def load(self) -> list[TaskResult]:
        """Returns the finished updates that are kept. Files the states of sessions before the last one."""
        ...

    def enter(self, task: TaskMessage) -> None:
        """Files the states of other sessions than the task's. To be called before the task's model is fetched."""
        ...

    def start(self, task: TaskMessage, package: str, base: Blob | None) -> PersonalStart:
        """Lets the session begin with the state of an earlier one, if one fits (see `choose`).

        Returns which one, or why not. Chooses once a session: later calls, also after a restart, return the same.
        """
        ...

    def begin(self, key: TaskKey) -> Path | None:
        """Deletes updates of earlier rounds of the session, as `forget` does.

        Returns the file for the update of the training that begins; None if it is to be returned as bytes.
        """
        ...

    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        """Keeps an update and the state after its training. Both are durable on return."""
        ...

    def state(self, key: TaskKey) -> Blob | None:
        """Returns the state after the newest finished training before this task, or that with which the session began.

        For a train task of round n that is a training of an earlier round. For a validate task of round n it may also be
        that of round n, which made the model.
        """
        ...

    def forget(self, session: str, before_round: int | None) -> None:
        """Deletes updates of earlier rounds and all their states but the newest.

        With None the session is over: files its newest state, and deletes the rest.
        """
        ...


class MemoryStore:
    """A Store in memory, for tests and simulation: it lives as long as this object."""

    def __init__(self) -> None:
        self.finished: dict[TaskKey, TaskResult] = {}
        self.states: dict[TaskKey, Blob | None] = {}
        self.filed: dict[str, tuple[KeptState, Blob]] = {}
        self._starts: dict[str, PersonalStart] = {}
        self._count = itertools.count(1)

    def load(self) -> list[TaskResult]:
        """Returns what this object holds."""
        return list(self.finished.values())

    def enter(self, task: TaskMessage) -> None:
        """Files in memory."""
        for other in {*self._starts, *(key.session for key in self.states)} - {task.plan.session}:
            self._file(other)

    def start(self, task: TaskMessage, package: str, base: Blob | None) -> PersonalStart:
        """Chooses among what is filed in memory."""
        session = task.plan.session
        if session not in self._starts:
            others = [kept for kept, _ in reversed(self.filed.values()) if kept.session != session]
            chosen, self._starts[session] = choose(others, package, local_shapes(base))
            if chosen is not None:
                self.states[TaskKey(session, BEFORE, "train")] = self.filed[chosen.session][1]
        return self._starts[session]

    def _file(self, session: str) -> None:
        keys = sorted(key for key in self.states if key.session == session)
        blob = self.states[keys[-1]] if keys and keys[-1].round > BEFORE else None
        for key in keys:
            del self.states[key]
        self._starts.pop(session, None)
        if blob is not None:
            try:
                kept = described(blob, next(self._count))
            except (InvalidUpdate, ValidationError):
                return
            self.filed.pop(session, None)
            self.filed[session] = kept, blob
            for oldest in list(self.filed)[:-SESSIONS]:
                del self.filed[oldest]

    def begin(self, key: TaskKey) -> Path | None:
        """Returns None, as updates are kept as bytes."""
        self.forget(key.session, key.round)
        return None

    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        """Keeps a state of None only after one that was not None."""
        self.finished[finished.key] = finished
        if state is not None or self.state(finished.key) is not None:
            self.states[finished.key] = state

    def state(self, key: TaskKey) -> Blob | None:
        """Returns the state from memory."""
        found = {k.round: blob for k, blob in self.states.items() if k.session == key.session and k.round < bound(key)}
        if key.session in self.filed and self.filed[key.session][0].round < bound(key):
            found.setdefault(self.filed[key.session][0].round, self.filed[key.session][1])
        return found[max(found)] if found else None

    def forget(self, session: str, before_round: int | None) -> None:
        """Deletes from memory."""
        for key in [k for k in self.finished if is_over(k.session, k.round, session, before_round)]:
            del self.finished[key]
        if before_round is None:
            self._file(session)
        for key in sorted(k for k in self.states if is_over(k.session, k.round, session, before_round))[:-1]:
            del self.states[key]


def bound(key: TaskKey) -> int:
    """Returns the first round whose training comes after this task."""
    return key.round if key.action == "train" else key.round + 1


def is_over(session: str, number: int, ended: str, before_round: int | None) -> bool:
    """Returns whether `forget(ended, before_round)` deletes what is kept of this session and round."""
    return session == ended and (before_round is None or number < before_round)
