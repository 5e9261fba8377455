"""Halts a server that runs as a program: its connections stay, and nothing is answered, as on a machine that hangs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """Stops a process and all that it has started by SIGSTOP, and continues them at the end."""
    family = list(_family(pid))
    for each in family:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in family:
            with suppress(ProcessLookupError):  # a helper that had ended already
                os.kill(each, signal.SIGCONT)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))
