"""What a client keeps between tasks, and between its lives: finished updates and `task.state`."""

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
    """- `load()`: finished updates of an earlier life.
    - `begin(key)`: a training begins, so updates of its session's earlier rounds go. The file for its own, None: as bytes.
    - `keep(finished, state)`: durable on return. `state(key)`: the state after the newest finished training
      before this task: to train in a round, that of an earlier one; to validate the model of a round, also that one's.
    - `forget(session, before_round)`: updates of earlier rounds go, and all states but the newest; all of both where
      None."""

    def load(self) -> list[TaskResult]: ...
    def begin(self, key: TaskKey) -> Path | None: ...
    def keep(self, finished: TaskResult, state: Blob | None) -> None: ...
    def state(self, key: TaskKey) -> Blob | None: ...
    def forget(self, session: str, before_round: int | None) -> None: ...


class MemoryStore:
    """For tests and simulation: nothing survives, except where a test keeps the store itself."""

    def __init__(self) -> None:
        self.finished: dict[TaskKey, TaskResult] = {}
        self.states: dict[TaskKey, Blob | None] = {}

    def load(self) -> list[TaskResult]:
        return list(self.finished.values())

    def begin(self, key: TaskKey) -> Path | None:
        self.forget(key.session, key.round)
        return None

    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        self.finished[finished.key] = finished
        if state is not None or self.state(finished.key) is not None:
            self.states[finished.key] = state

    def state(self, key: TaskKey) -> Blob | None:
        rounds = [k for k in self.states if k.session == key.session and k.round < _bound(key)]
        return self.states[max(rounds, key=lambda k: k.round)] if rounds else None

    def forget(self, session: str, before_round: int | None) -> None:
        for key in [k for k in self.finished if _is_over(k.session, k.round, session, before_round)]:
            del self.finished[key]
        states = sorted(k for k in self.states if _is_over(k.session, k.round, session, before_round))
        for key in states if before_round is None else states[:-1]:
            del self.states[key]


class FolderStore:
    """One folder a client. A task's update, its state and, written last, its outcome are `SESSION.ROUND.*` files. An empty
    file is the state of a training that left none after one that did."""

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
        found = []
        for session, number in sorted(self._rounds):
            path, update = Path(self._path(session, number, "json")), Path(self._path(session, number, "update"))
            if path.exists() and update.exists():
                fields = json.loads(path.read_text())
                key = TaskKey(*fields.pop("key"))
                found.append(TaskResult(**fields | {"key": key, "update": update}))
        return found

    def begin(self, key: TaskKey) -> Path | None:
        self.forget(key.session, key.round)
        if not self._rounds:
            self._root.mkdir(parents=True, exist_ok=True)
        self._rounds.add((key.session, key.round))
        return Path(self._path(key.session, key.round, "update"))

    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        key = finished.key
        if state is None and self.state(key) is not None:
            Path(self._path(key.session, key.round, _STATE)).touch()
        document = asdict(finished) | {"update": None, "traceback": ""}
        path = self._path(key.session, key.round, "json")
        with open(f"{path}.new", "w") as file:
            json.dump(document, file)
        os.replace(f"{path}.new", path)

    def state(self, key: TaskKey) -> Blob | None:
        for session, number in sorted(self._rounds, key=lambda pair: -pair[1]):
            if session == key.session and number < _bound(key):
                path = self._path(session, number, _STATE)
                if os.path.exists(path):
                    return Path(path) if os.path.getsize(path) else None
        return None

    def forget(self, session: str, before_round: int | None) -> None:
        over = sorted(pair for pair in self._rounds if _is_over(*pair, session, before_round))
        left = [] if before_round is None else [pair for pair in over if os.path.exists(self._path(*pair, _STATE))]
        for pair in over:
            for suffix in ("json", "update"):
                _remove(self._path(*pair, suffix))
            if pair not in left[-1:]:
                _remove(self._path(*pair, _STATE))
                self._rounds.discard(pair)


def _bound(key: TaskKey) -> int:
    """The round whose training, and all later ones, comes after this task."""
    return key.round if key.action == "train" else key.round + 1


def _is_over(session: str, number: int, ended: str, before_round: int | None) -> bool:
    return session == ended and (before_round is None or number < before_round)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
