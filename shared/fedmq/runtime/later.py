"""A result that a performer delivers later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OnComplete = Callable[[Any, Exception | None], None]


class Later:
    """A performer returns a `Later` where it has no result yet. The effect is under way until `complete` is called."""

    __slots__ = ("_on_complete", "_outcome")

    def __init__(self) -> None:
        self._on_complete: OnComplete | None = None
        self._outcome: tuple[Any, Exception | None] | None = None

    def complete(self, result: Any = None, error: Exception | None = None) -> None:
        """Ends the effect, with a result or an error to raise. To be called once, on the scheduler's thread."""
        self._outcome = result, error
        if self._on_complete is not None:
            self._on_complete(result, error)

    def on_complete(self, callback: OnComplete) -> None:
        """Calls `callback(result, error)` when the effect ends; at once if it has ended already."""
        self._on_complete = callback
        if self._outcome is not None:
            callback(*self._outcome)
