"""The states of sessions that are not filed yet: those in the folder `finished` of a client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from fedmq.errors import InvalidUpdate
from fedmq_client.personal.kept_state import KeptState, described
from fedmq_schemas.messages import BlobRef, PersonalStart

STATE = "update.state"
"""The suffix of a state's file, after session and round."""
HELD = "held.json"
"""The suffix of the file that names the newest model of a session, after the session."""

START = "start.json"
"""The suffix of the file that says with which state a session began, after the session."""


def held_by(finished: Path, session: str) -> BlobRef | None:
    """Returns the newest model of a session that the client has fetched, if that is noted."""
    with contextlib.suppress(FileNotFoundError, ValidationError):
        return BlobRef.model_validate_json((finished / f"{session}.{HELD}").read_bytes())
    return None


def start_of(finished: Path, session: str) -> PersonalStart | None:
    """Returns with which state a session began; None if that is not recorded, or can't be read."""
    with contextlib.suppress(FileNotFoundError, ValidationError):
        return PersonalStart.model_validate_json((finished / f"{session}.{START}").read_bytes())
    return None


def begun_with(finished: Path, session: str) -> Iterator[str]:
    """Yields the sessions that began with the state of `session`."""
    for path in finished.glob(f"*.{START}"):
        begun = path.name.partition(".")[0]
        start = start_of(finished, begun)
        if start is not None and start.session == session:
            yield begun


def open_states(finished: Path) -> Iterator[tuple[KeptState, Path]]:
    """Yields the newest state of each session, and its path. A state of an older version is left out."""
    newest = {path.name.split(".")[0]: path for path in sorted(finished.glob(f"*.{STATE}"))}
    for session, path in newest.items():
        if int(path.name.split(".")[1]) > 0 and path.stat().st_size:
            with contextlib.suppress(InvalidUpdate, ValidationError):
                kept = described(path, path.stat().st_mtime)
                held = held_by(finished, session)
                yield kept if held is None else kept.model_copy(update={"model": held}), path
