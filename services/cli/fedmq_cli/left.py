"""What verbs say of a sandbox's folder in which no sandbox runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmq_cli.output import say


def say_if_left(state_dir: Path | None, *, err: bool = False) -> bool:
    """Returns whether the place is a folder in which no sandbox runs, and prints so."""
    found = is_left(state_dir)
    if found:
        say("its sandbox does not run now: this is what it recorded last", err=err)
    return found


def is_left(state_dir: Path | None) -> bool:
    """Returns whether the place is a folder in which no sandbox runs."""
    if state_dir is None:
        return False
    from fedmq_sandbox import folder

    return folder.is_left(state_dir)


def beginning(state_dir: Path) -> str:
    """Returns the command that trains in a folder whose sandbox ended before its session was recorded; empty if unknown."""
    from fedmq_sandbox.chain import chain_sessions, kept_options

    return next((resuming(state_dir, name) for name in chain_sessions(kept_options(state_dir))), "")


def say_if_failed(state_dir: Path | None, session: Mapping[str, Any]) -> None:
    """Prints what trains again, if the session of a folder in which no sandbox runs has failed."""
    if session["state"] == "failed" and is_left(state_dir):
        say("this folder keeps its failed session: `fedmq sandbox` trains again in another --state-dir")


def resuming(state_dir: Path | None, session: str) -> str:
    """Returns the command that resumes an open session of a folder in which no sandbox runs, without its --state-dir."""
    from fedmq_sandbox import folder

    assert state_dir is not None
    return folder.resuming(state_dir, session)
