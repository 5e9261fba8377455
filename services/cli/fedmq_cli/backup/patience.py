"""Repeats work whose server fails for a while, as what it has copied is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fedmq.errors import Transient
from fedmq_cli.output import say

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for which a server may fail, counted from the first failure."""
PAUSE = 1.0


def patiently(work: Callable[[], T]) -> T:
    """Returns the result of `work`, which continues where it ended when it is called again.

    Raises Transient once a server has failed for a minute. Work that has run for longer than that begins a new minute.
    """
    ends = 0.0
    while True:
        began = time.monotonic()
        try:
            return work()
        except Transient as error:
            now = time.monotonic()
            if not ends or now - began > PATIENCE:
                ends = now + PATIENCE
            if now >= ends:
                reason = f"{error.reason}; what is copied is kept: the same command continues"
                raise Transient(reason, store=error.store) from error
            say(f"{error.reason}: trying again", err=True)
            time.sleep(PAUSE)
