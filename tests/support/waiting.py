"""Waits for servers, processes and threads, which have no virtual clock: looks again and again, up to a deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 240.0
"""The usual deadline. It only bounds a failure, so it leaves room for a busy machine."""


def promised(seconds: float) -> float:
    """Returns the deadline for what is promised within `seconds`: more on a machine with more processes than cores."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def until(
    condition: Callable[[], T | None], what: str | Callable[[], str], seconds: float = SECONDS, every: float = 0.01
) -> T:
    """Calls `condition` every so many seconds until its result is true, and returns that.

    `what`: the awaited state for the message, or a function that describes what was found instead of it.

    Raises:
        TimeoutError: The result is still not true after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)
    return found
