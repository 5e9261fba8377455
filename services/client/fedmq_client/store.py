"""What a client keeps between tasks, and between its lives: finished updates and `task.state`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from fedmq_client.operations import Finished, TaskKey
from fedmq_client.pool import Blob


class Store(Protocol):
    """- `load()`: finished updates of an earlier life. `output(key)`: the file for a task's update, None: as bytes.
    - `keep(finished, state)`: durable on return. `state(key)`: the state after the newest finished training
      before this task: to train in a round, that of an earlier one; to validate the model of a round, also that one's.
    - `forget(session, before_round)`: updates of earlier rounds go, all of the session's and its states where None."""

    def load(self) -> list[Finished]: ...
    def output(self, key: TaskKey) -> Path | None: ...
    def keep(self, finished: Finished, state: Blob | None) -> None: ...
    def state(self, key: TaskKey) -> Blob | None: ...
    def forget(self, session: str, before_round: int | None) -> None: ...


class MemoryStore:
    """For tests and simulation: nothing survives, except where a test keeps the store itself."""

    def __init__(self) -> None:
        self.finished: dict[TaskKey, Finished] = {}
        self.states: dict[TaskKey, Blob] = {}

    def load(self) -> list[Finished]:
        return list(self.finished.values())

    def output(self, key: TaskKey) -> Path | None:
        return None

    def keep(self, finished: Finished, state: Blob | None) -> None:
        self.finished[finished.key] = finished
        if state is not None:
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
    """One folder a client. A task's update, its state and, written last, its outcome are `SESSION.ROUND.*` files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rounds: set[tuple[str, int]] = set()
        if root.is_dir():
            for path in root.glob("*.update*"):
                session, number, *_ = path.name.split(".")
                self._rounds.add((session, int(number)))

    def _path(self, session: str, number: int, suffix: str) -> str:
        return f"{self._root}/{session}.{number:06d}.{suffix}"

    def load(self) -> list[Finished]:
        found = []
        for session, number in sorted(self._rounds):
            path, update = Path(self._path(session, number, "json")), Path(self._path(session, number, "update"))
            if path.exists() and update.exists():
                fields = json.loads(path.read_text())
                key = TaskKey(*fields.pop("key"))
                found.append(Finished(**fields | {"key": key, "update": update}))
        return found

    def output(self, key: TaskKey) -> Path | None:
        if not self._rounds:
            self._root.mkdir(parents=True, exist_ok=True)
        self._rounds.add((key.session, key.round))
        return Path(self._path(key.session, key.round, "update"))

    def keep(self, finished: Finished, state: Blob | None) -> None:
        key = finished.key
        document = asdict(finished) | {"update": None, "traceback": ""}
        path = self._path(key.session, key.round, "json")
        with open(f"{path}.new", "w") as file:
            json.dump(document, file)
        os.replace(f"{path}.new", path)

    def state(self, key: TaskKey) -> Blob | None:
        for session, number in sorted(self._rounds, key=lambda pair: -pair[1]):
            if session == key.session and number < _bound(key):
                path = self._path(session, number, "update.state")
                if os.path.exists(path):
                    return Path(path)
        return None

    def forget(self, session: str, before_round: int | None) -> None:
        over = sorted(pair for pair in self._rounds if _is_over(*pair, session, before_round))
        for number, (name, round_number) in enumerate(over):
            for suffix in ("json", "update"):
                _remove(self._path(name, round_number, suffix))
            if before_round is None or number < len(over) - 1:
                _remove(self._path(name, round_number, "update.state"))
                self._rounds.discard((name, round_number))


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
