"""The folder `personal` of a client: the states of its last sessions, with what makes a whole model of them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from fedmq.errors import InvalidUpdate
from fedmq_client.personal.kept_state import KeptState, described
from fedmq_schemas.messages import BlobRef

log = logging.getLogger("fedmq.client")

DAYS = 30.0
SESSIONS = 3
_DAY = 86_400.0
_BLOB = ".safetensors"

FindBlob = Callable[[BlobRef], Path]
"""Returns the path of a model's or base's file, which may be absent."""


def fetched_into(models: Path) -> FindBlob:
    """Returns where a client finds what it has fetched into its folder `models`."""
    return lambda ref: models / f"{ref.sha256}{_BLOB}"


def stored_in(blobs: Path) -> FindBlob:
    """Returns where the clients of a sandbox find blobs: in its own store, from which they fetch nothing."""
    return lambda ref: blobs / ref.key


class PersonalFolder:
    """Files states below `root`, which only this user may read. `find`: returns where a model that the client fetched is.

    A state has the files `SESSION.ROUND.json`, its description, and `SESSION.ROUND.safetensors`, which is moved here last
    and without which the description does not count. The session's model and base are beside it, by their hashes. At most
    `sessions` states are kept, each for `days`; 0 of either keeps none. `wall()`: UTC seconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        find: FindBlob,
        days: float = DAYS,
        sessions: int = SESSIONS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.root = root
        self._find = find
        self._days = days
        self._sessions = sessions
        self._wall = wall

    def path(self, kept: KeptState) -> Path:
        """Returns the path of a state."""
        return self.root / f"{kept.name}{_BLOB}"

    def blob(self, ref: BlobRef) -> Path:
        """Returns the path of a model or base."""
        return self.root / f"{ref.sha256}{_BLOB}"

    def states(self) -> list[KeptState]:
        """Returns what is kept, the newest first; of a session only its newest round."""
        newest: dict[str, KeptState] = {}
        for path in self.root.glob("*.*.json"):
            if path.with_suffix(_BLOB).exists():
                with contextlib.suppress(ValidationError, FileNotFoundError):
                    kept = KeptState.model_validate_json(path.read_bytes())
                    if kept.session not in newest or newest[kept.session].round < kept.round:
                        newest[kept.session] = kept
        return sorted(newest.values(), key=lambda kept: (kept.saved_at, kept.session), reverse=True)

    def state_of(self, session: str, before_round: int) -> Path | None:
        """Returns the path of the session's state, if it is of a round before `before_round`."""
        for path in sorted(self.root.glob(f"{session}.*{_BLOB}"), reverse=True):
            number = int(path.name.split(".")[1])
            if number < before_round:
                return path
        return None

    def file(self, state: Path, held: BlobRef | None) -> None:
        """Moves a state here, with its model and base. `held`: the newest model of its session that the client has fetched.

        Killed at any instant, it leaves the state either there or here; then it is to be called again. Deletes a state
        that is damaged or of an older version, and states that are over their bounds.
        """
        try:
            kept = described(state, state.stat().st_mtime)
        except (InvalidUpdate, ValidationError) as error:
            log.warning("a private state can't be kept", extra={"reason": f"{state.name}: {error}"})
            state.unlink()
            return
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.root.chmod(0o700)
        if held is not None and self._take(held):
            kept = kept.model_copy(update={"model": held})
        else:
            self._take(kept.model)
        if kept.base is not None:
            self._take(kept.base)
        os.chmod(state, 0o600)
        write_private(self.root / f"{kept.name}.json", json.dumps(kept.model_dump(), indent=1))
        os.replace(state, self.path(kept))
        self.prune()

    def prune(self) -> None:
        """Deletes states that are over their bounds, and files that belong to none."""
        if self.root.is_dir():
            self._keep_only(kept for place, kept in enumerate(self.states()) if not self._is_over(kept, place))

    def delete(self, session: str) -> None:
        """Deletes the state of a session."""
        self._keep_only(kept for kept in self.states() if kept.session != session)

    def is_too_old(self, saved_at: float) -> bool:
        """Returns whether a state of this time is over its days. Of the session under way none is within the first day."""
        return saved_at <= self._wall() - max(self._days, 1.0) * _DAY

    def _is_over(self, kept: KeptState, place: int) -> bool:
        return place >= self._sessions or kept.saved_at <= self._wall() - self._days * _DAY

    def _keep_only(self, states: Iterable[KeptState]) -> None:
        names = set()
        for kept in states:
            names |= {f"{kept.name}.json", self.path(kept).name, self.blob(kept.model).name}
            if kept.base is not None:
                names.add(self.blob(kept.base).name)
        for path in self.root.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _take(self, ref: BlobRef) -> bool:
        """Returns whether the blob is here, linked or copied from where the client has it."""
        source, target = self._find(ref), self.blob(ref)
        if not target.exists() and source.exists() and source.stat().st_size == ref.size:
            link_or_copy(source, target)
        return target.exists()


def write_private(path: Path, text: str) -> None:
    """Writes a file that only this user may read, whole or not at all."""
    scratch = path.with_name(f"{path.name}.new")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(scratch, path)


def link_or_copy(source: Path, target: Path) -> None:
    """Makes `target`, which does not exist, the same file as `source`, or a copy where the file system has no links."""
    scratch = target.with_name(f"{target.name}.new")
    scratch.unlink(missing_ok=True)
    try:
        os.link(source, scratch)
    except OSError:
        shutil.copyfile(source, scratch)
    os.replace(scratch, target)
