"""Keeps a client's finished updates and states in files, so that they survive a restart."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fedmq_client.job.job import Blob
from fedmq_client.personal.folder import PersonalFolder, link_or_copy, write_private
from fedmq_client.personal.kept_state import choose, local_shapes
from fedmq_client.personal.open_states import HELD, START, STATE, held_by, start_of
from fedmq_client.role.operations import TaskKey, TaskResult, task_key
from fedmq_client.role.store import BEFORE, bound, is_over
from fedmq_schemas.messages import PersonalStart, TaskMessage

log = logging.getLogger("fedmq.client")

_RESULT = TypeAdapter(TaskResult)


class FolderStore:
    """A Store in one folder of its client. States that outlive their session are filed in `personal`.

    A training has the files `SESSION.ROUND.update`, `.update.state`, `.scores` and, written last, `.json` with its result.
    An empty state file belongs to a training that left no state after one that did. The state of round 0 is that with
    which the session began; `SESSION.start.json` names its session. `SESSION.held.json` names the newest model of a
    session with a state.
    """

    def __init__(self, root: Path, personal: PersonalFolder) -> None:
        self._root = root
        self._personal = personal
        self._entered = ""
        self._held: dict[str, str] = {}
        self._rounds: set[tuple[str, int]] = set()
        if root.is_dir():
            for path in root.glob("*.update*"):
                session, number, *_ = path.name.split(".")
                self._rounds.add((session, int(number)))

    def _path(self, session: str, number: int, suffix: str) -> str:
        return f"{self._root}/{session}.{number:06d}.{suffix}"

    def load(self) -> list[TaskResult]:
        """Returns the updates whose result file is there: others were interrupted. One that can't be read trains again.

        The state of the last session is filed too if it is over its days, as that session can't be under way.
        """
        saved_at: dict[str, float] = {}
        for session, number in self._rounds:
            state = self._path(session, number, STATE)
            if number > BEFORE and os.path.exists(state):
                saved_at[session] = max(os.path.getmtime(state), saved_at.get(session, 0.0))
        for place, session in enumerate(sorted(saved_at, key=lambda session: saved_at[session]), 1):
            if place < len(saved_at) or self._personal.is_too_old(saved_at[session]):
                self._file(session)
        self._personal.prune()
        found = []
        for session, number in sorted(self._rounds):
            path, update, scores = (Path(self._path(session, number, kind)) for kind in ("json", "update", "scores"))
            if path.exists() and update.exists():
                try:
                    document = json.loads(path.read_bytes())
                    document["scores"] = json.loads(scores.read_bytes()) if scores.exists() else None
                    found.append(_result(document, update))
                except (ValueError, TypeError) as error:
                    log.warning("a kept update can't be read", extra={"reason": f"{path.name}: {error!r}"})
        return found

    def enter(self, task: TaskMessage) -> None:
        """Notes which model of a session with a state the client holds."""
        session = task.plan.session
        if session != self._entered:
            self._entered = session
            noted = {path.name.partition(".")[0] for path in self._root.glob(f"*.{START}")}
            for other in sorted({name for name, _ in self._rounds} | noted):
                if other != session:
                    self._file(other)
        if self._held.get(session) != task.model.sha256 and self.state(task_key(task.plan)) is not None:
            self._make_folder()
            write_private(self._root / f"{session}.{HELD}", task.model.model_dump_json())
            self._held = {session: task.model.sha256}

    def start(self, task: TaskMessage, package: str, base: Blob | None) -> PersonalStart:
        """Links the chosen state as that of round 0, and then records the choice."""
        session = task.plan.session
        path, begins_with = self._root / f"{session}.{START}", Path(self._path(session, BEFORE, STATE))
        known = start_of(self._root, session)
        if known is not None:
            return known
        others = [kept for kept in self._personal.states() if kept.session != session]
        chosen, start = choose(others, package, local_shapes(base))
        self._make_folder()
        begins_with.unlink(missing_ok=True)
        if chosen is not None:
            link_or_copy(self._personal.path(chosen), begins_with)
            self._rounds.add((session, BEFORE))
        write_private(path, start.model_dump_json())
        return start

    def begin(self, key: TaskKey) -> Path | None:
        """Returns a path in the folder, which it makes."""
        self.forget(key.session, key.round)
        if not self._rounds:
            self._make_folder()
        self._rounds.add((key.session, key.round))
        return Path(self._path(key.session, key.round, "update"))

    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        """Writes the result. The job has written update and state."""
        key = finished.key
        if state is None and self.state(key) is not None:
            Path(self._path(key.session, key.round, STATE)).touch()
        document = dataclasses.asdict(finished) | {"update": None, "traceback": ""}
        scores = document.pop("scores")  # in a file of its own: version 0.2.0 does not start with an unknown field
        if scores is not None:
            with open(self._path(key.session, key.round, "scores"), "w") as file:
                json.dump(scores, file)
        if not finished.notes:  # a version that knows no notes does not start with an unknown field
            del document["notes"]
        if finished.personal is None:  # as above
            del document["personal"]
        else:
            document["personal"] = finished.personal.model_dump()
        path = self._path(key.session, key.round, "json")
        with open(f"{path}.new", "w") as file:
            json.dump(document, file)
        os.replace(f"{path}.new", path)

    def state(self, key: TaskKey) -> Blob | None:
        """Returns the path of the state file, which may be filed already."""
        rounds = [number for session, number in self._rounds if session == key.session and number < bound(key)]
        for number in sorted(rounds, reverse=True):
            path = self._path(key.session, number, STATE)
            if number > BEFORE and os.path.exists(path):
                return Path(path) if os.path.getsize(path) else None
        filed = self._personal.state_of(key.session, bound(key))
        if filed is not None:
            return filed
        begins_with = Path(self._path(key.session, BEFORE, STATE))
        return begins_with if BEFORE in rounds and begins_with.exists() else None

    def forget(self, session: str, before_round: int | None) -> None:
        """Deletes files."""
        if before_round is None:
            self._file(session)
        over = sorted(pair for pair in self._rounds if is_over(*pair, session, before_round))
        left = [pair for pair in over if os.path.exists(self._path(*pair, STATE))]
        for pair in over:
            for suffix in ("json", "scores", "update"):
                _remove(self._path(*pair, suffix))
            if pair not in left[-1:]:
                _remove(self._path(*pair, STATE))
                self._rounds.discard(pair)

    def _file(self, session: str) -> None:
        """Files the newest state of the session, and deletes the others. May be repeated after a crash."""
        numbers = sorted(number for name, number in self._rounds if name == session)
        states = [path for number in numbers if os.path.exists(path := self._path(session, number, STATE))]
        if states and states[-1] != self._path(session, BEFORE, STATE) and os.path.getsize(states[-1]):
            try:
                self._personal.file(Path(states[-1]), held_by(self._root, session))
            except OSError as error:  # a full disk, for example, costs no task; it is tried again at the next start
                log.warning("a private state can't be filed", extra={"session": session, "reason": str(error)})
                return
        for path in (*states, f"{self._root}/{session}.{HELD}", f"{self._root}/{session}.{START}"):
            _remove(path)
        self._held.pop(session, None)

    def _make_folder(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o700)  # states are the site's alone; an older version left the folder open


def _result(document: dict[str, Any], update: Path) -> TaskResult:
    """Returns a kept result, without fields of a newer version. Raises ValueError or TypeError for others."""
    return _RESULT.validate_python(document | {"update": update})


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)
