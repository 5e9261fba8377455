"""Keeps what a client needs between tasks and after a restart: finished updates and `task.state`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from fedmq_client.job.job import Blob
from fedmq_client.role.operations import TaskKey, TaskResult

_STATE = "update.state"


class Store(Protocol):
    """Finished updates and states, by task."""

    def load(self) -> list[TaskResult]:
        """Returns the finished updates that are kept."""
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
        """Returns the state after the newest finished training before this task.

        For a train task of round n that is a training of an earlier round. For a validate task of round n it may also be
        that of round n, which made the model.
        """
        ...

    def forget(self, session: str, before_round: int | None) -> None:
        """Deletes updates of earlier rounds and all their states but the newest; with None, all of the session."""
        ...


class MemoryStore:
    """A Store in memory, for tests and simulation: it lives as long as this object."""

    def __init__(self) -> None:
        self.finished: dict[TaskKey, TaskResult] = {}
        self.states: dict[TaskKey, Blob | None] = {}

    def load(self) -> list[TaskResult]:
        """Returns what this object holds."""
        return list(self.finished.values())

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
        rounds = [k for k in self.states if k.session == key.session and k.round < _bound(key)]
        return self.states[max(rounds, key=lambda k: k.round)] if rounds else None

    def forget(self, session: str, before_round: int | None) -> None:
        """Deletes from memory."""
        for key in [k for k in self.finished if _is_over(k.session, k.round, session, before_round)]:
            del self.finished[key]
        states = sorted(k for k in self.states if _is_over(k.session, k.round, session, before_round))
        for key in states if before_round is None else states[:-1]:
            del self.states[key]


class FolderStore:
    """A Store in one folder of its client.

    A training has the files `SESSION.ROUND.update`, `.update.state` and, written last, `.json` with its result. An empty
    state file belongs to a training that left no state after one that did.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rounds: set[tuple[str, int]] = set()
        if root.is_dir():
            for path in root.glob("*.update*"):
                session, number, *_ = path.name.split(".")
                self._rounds.add((session, int(number)))

    def _path(self, session: str, number: int, suffix: str) -> str:
        return f"{self._root}/{session}.{number:06d}.{suffix}"

    def load(self) -> list[TaskResult]:
        """Returns the updates whose result file is there: others were interrupted."""
        found = []
        for session, number in sorted(self._rounds):
            path, update = Path(self._path(session, number, "json")), Path(self._path(session, number, "update"))
            if path.exists() and update.exists():
                fields = json.loads(path.read_text())
                key = TaskKey(*fields.pop("key"))
                found.append(TaskResult(**fields | {"key": key, "update": update}))
        return found

    def begin(self, key: TaskKey) -> Path | None:
        """Returns a path in the folder, which it makes."""
        self.forget(key.session, key.round)
        if not self._rounds:
            self._root.mkdir(parents=True, exist_ok=True)
        self._rounds.add((key.session, key.round))
        return Path(self._path(key.session, key.round, "update"))

    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        """Writes the result. The job has written update and state."""
        key = finished.key
        if state is None and self.state(key) is not None:
            Path(self._path(key.session, key.round, _STATE)).touch()
        document = asdict(finished) | {"update": None, "traceback": ""}
        if not finished.notes:  # an older program, which knows no notes, can read the others
            del document["notes"]
        path = self._path(key.session, key.round, "json")
        with open(f"{path}.new", "w") as file:
            json.dump(document, file)
        os.replace(f"{path}.new", path)

    def state(self, key: TaskKey) -> Blob | None:
        """Returns the path of the state file."""
        for session, number in sorted(self._rounds, key=lambda pair: -pair[1]):
            if session == key.session and number < _bound(key):
                path = self._path(session, number, _STATE)
                if os.path.exists(path):
                    return Path(path) if os.path.getsize(path) else None
        return None

    def forget(self, session: str, before_round: int | None) -> None:
        """Deletes files."""
        over = sorted(pair for pair in self._rounds if _is_over(*pair, session, before_round))
        left = [] if before_round is None else [pair for pair in over if os.path.exists(self._path(*pair, _STATE))]
        for pair in over:
            for suffix in ("json", "update"):
                _remove(self._path(*pair, suffix))
            if pair not in left[-1:]:
                _remove(self._path(*pair, _STATE))
                self._rounds.discard(pair)


def _bound(key: TaskKey) -> int:
    """Returns the first round whose training comes after this task."""
    return key.round if key.action == "train" else key.round + 1


def _is_over(session: str, number: int, ended: str, before_round: int | None) -> bool:
    return session == ended and (before_round is None or number < before_round)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)
