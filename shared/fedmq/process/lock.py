"""Locks on files between processes. A lock ends when its file is closed, so also when its process dies."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import IO, Any

FOLDER_LOCK = "lock"
"""Name of the file in a sandbox's folder that is locked while the sandbox runs."""
LOOK_AGAIN = 0.05
"""Seconds between two attempts of `wait_for_lock`."""


def try_lock(file: IO[Any]) -> bool:
    """Locks an open file. Returns False if another process holds the lock, or another opening of the file does."""
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_locked(path: Path) -> bool:
    """Returns whether a process holds the lock of the file, or may: without the right to read it that is not known."""
    try:
        with path.open() as file:
            return not try_lock(file)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def wait_for_lock(file: IO[Any]) -> None:
    """Locks an open file as soon as nobody else holds the lock."""
    while not try_lock(file):
        time.sleep(LOOK_AGAIN)


def _lock(file: IO[Any]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        msvcrt = import_module("msvcrt")
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
