"""What a site may do with its clients' states: list, export and delete. Reads a state folder only, no server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq.process.lock import try_lock
from fedmq.tensors import Weights
from fedmq.tensors.splitting import join
from fedmq.value import value
from fedmq_client.job.partial_model import kept_and_state
from fedmq_client.personal.folder import FindBlob, PersonalFolder, fetched_into, stored_in
from fedmq_client.personal.kept_state import KeptState
from fedmq_client.personal.open_states import HELD, START, STATE, begun_with, open_states
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef


@value
class SiteClient:
    """A client's folder below a state folder. `lock`: the file that its process holds while it runs. `find`: its models."""

    name: str
    folder: Path
    lock: Path
    find: FindBlob

    @property
    def personal(self) -> PersonalFolder:
        """The folder of the filed states."""
        return PersonalFolder(self.folder / "personal", self.find)

    def states(self) -> list[SiteState]:
        """Returns the client's states, the newest first: filed ones, and those of sessions under way or interrupted."""
        personal = self.personal
        found = {
            (kept.session, kept.round): SiteState(self, kept, personal.path(kept), personal.blob)
            for kept in personal.states()
        }
        for kept, path in open_states(self.folder / "finished"):
            found[kept.session, kept.round] = SiteState(self, kept, path, self.find, is_open=True)
        return sorted(found.values(), key=lambda state: state.kept.saved_at, reverse=True)

    def delete(self, session: str | None) -> tuple[list[str], list[str]]:
        """Deletes the state of a session, or with None all. Returns the sessions it deleted, and those that it could not.

        While the client runs, the state of the session under way can't be deleted.
        """
        deleted: list[str] = []
        in_use: list[str] = []
        with self.lock.open("a") as file:
            is_free = try_lock(file)
            for name in {state.kept.session: state for state in self.states() if session in (None, state.kept.session)}:
                self.personal.delete(name)
                users = {name, *begun_with(self.folder / "finished", name)}
                paths = [path for user in sorted(users) for path in self._open_files(user)]
                for path in paths if is_free else ():
                    path.unlink(missing_ok=True)
                (in_use if paths and not is_free else deleted).append(name)
        return deleted, in_use

    def _open_files(self, session: str) -> Iterator[Path]:
        finished = self.folder / "finished"
        yield from finished.glob(f"{session}.*.{STATE}")
        yield from (path for suffix in (HELD, START) if (path := finished / f"{session}.{suffix}").exists())


@value
class SiteState:
    """A state on disk. `find`: its model and base. `is_open`: its session may be under way."""

    client: SiteClient
    kept: KeptState
    path: Path
    find: FindBlob
    is_open: bool = False

    @property
    def model(self) -> str:
        """The id of the model whose shared tensors belong to the state."""
        return keys.model_id(self.kept.model.key)

    def own(self) -> tuple[Weights, Weights]:
        """Returns the local tensors, and the arrays of `task.state`."""
        return kept_and_state(tensors.decode(self.path.read_bytes())[0])

    def read(self) -> tuple[Weights, dict[str, Any]]:
        """Returns the whole model with its metadata, which says under `personal` whose model it is.

        Shared tensors are those of `model`, frozen ones those of the session's base. Raises ConfigError without them.
        """
        shared, meta = tensors.decode(self._blob(self.kept.model))
        base, base_meta = ({}, {}) if self.kept.base is None else tensors.decode(self._blob(self.kept.base))
        weights, meta = join(shared, meta, base, base_meta)
        whose = {
            "client": self.client.name,
            "session": self.kept.session,
            "round": self.kept.round,
            "model": self.model,
        }
        return weights | self.own()[0], {**meta, "personal": whose}

    def _blob(self, ref: BlobRef) -> bytes:
        path = self.find(ref)
        if not path.exists():
            raise ConfigError(
                f"client {self.client.name} lacks tensors of model {self.model}: only --state FILE can be written"
            )
        return path.read_bytes()


def clients_in(state_dir: Path) -> dict[str, SiteClient]:
    """Returns the clients whose folders are in the state folder of a site or of a sandbox, by name."""
    found = {}
    for folder in sorted((state_dir / "clients").glob("*/")):
        found[folder.name] = SiteClient(folder.name, folder, state_dir / "lock", stored_in(state_dir / "blobs"))
    for folder in sorted((state_dir / "client").glob("*/")):
        name = (folder / "name").read_text().strip() if (folder / "name").exists() else folder.name
        found[name] = SiteClient(name, folder, folder / "lock", fetched_into(folder / "models"))
    return found


def client_in(state_dir: Path, name: str) -> SiteClient:
    """Returns the client of this name. Raises ConfigError that names those that are there."""
    found = clients_in(state_dir)
    if name not in found:
        there = f"it has {', '.join(sorted(found))}" if found else "it has none: name the folder with --state-dir"
        raise ConfigError(f"{state_dir} has no client {name}: {there}")
    return found[name]


def state_of(client: SiteClient, session: str | None) -> SiteState:
    """Returns the client's state of a session, or with None the newest one. Raises ConfigError."""
    found = [state for state in client.states() if session in (None, state.kept.session)]
    if not found:
        which = "of any session" if session is None else f"of session {session}"
        raise ConfigError(f"client {client.name} keeps no state {which}: `fedmq personal list` shows what is kept")
    return found[0]
