"""A file is locked by one process at a time, by the means of POSIX systems and by those of Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedmq.process.lock import try_lock, wait_for_lock


class Msvcrt(SimpleNamespace):
    """Windows' module: a lock is of a file, and ends with the descriptor that holds it."""

    LK_NBLCK = 2
    held: set[int]

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        self.held = {held for held in self.held if is_open(held)}
        if any(os.path.sameopenfile(held, descriptor) for held in self.held):
            raise PermissionError(13, "Permission denied")
        self.held.add(descriptor)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture(params=["posix", "windows"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file on a system of this kind."""
    if request.param == "windows":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt(held=set()))
    return tmp_path / "lock"


def test_a_file_is_locked_until_it_is_closed(path: Path) -> None:
    with path.open("a") as first, path.open("a") as second:
        assert try_lock(first)
        assert not try_lock(second)
        first.close()
        assert try_lock(second)


def test_a_lock_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("a") as first, path.open("a") as second:
        assert try_lock(first)
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                first.close()

        monkeypatch.setattr("fedmq.process.lock.time.sleep", sleep)
        wait_for_lock(second)
    assert len(waits) == 3
