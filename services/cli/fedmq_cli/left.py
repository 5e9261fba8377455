"""What verbs say of a sandbox's folder in which no sandbox runs."""

from __future__ import annotations

from pathlib import Path

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


def resuming(state_dir: Path | None, session: str) -> str:
    """Returns the command that resumes an open session of a folder in which no sandbox runs, without its --state-dir."""
    from fedmq_sandbox import folder

    assert state_dir is not None
    return folder.resuming(state_dir, session)
