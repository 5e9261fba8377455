"""Python's garbage collector, slowed down while a sandbox is open."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

THRESHOLD = (100_000, 50, 50)
"""A thousand actors are many live objects: examining them every 700 allocations, Python's default, took a fifth of a
round."""


class _Collector:
    """The threshold that all open sandboxes share: the first one sets it, and the last one restores the caller's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = gc.get_threshold()

    @contextlib.contextmanager
    def slowed_down(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before = gc.get_threshold()
                gc.set_threshold(*THRESHOLD)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    gc.set_threshold(*self._before)


slowed_down = _Collector().slowed_down
"""Collects garbage rarely inside of a `with` block. Blocks may overlap, and may end in any order, on any thread."""
