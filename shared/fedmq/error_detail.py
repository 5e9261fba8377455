"""What of an exception may leave the site where it was raised: its class, also the places in the code, or everything.

The text of an exception, its notes and the lines of source code may quote private data. Names of classes, files and
functions, and numbers of lines, are of the code alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Literal

ErrorDetail = Literal["class", "frames", "full"]
"""`class`: names of exception classes. `frames`: also file, line and function of each frame. `full`: everything."""

PlaceOf = Callable[[CodeType], str | None]
"""Returns the name by which a frame's file is shown; None for a frame that is not shown."""

MOST_CAUSES = 10
MOST_FRAMES = 50


def chain(error: BaseException) -> list[BaseException]:
    """Returns the exceptions that led to `error`, in their order, and `error` itself at the end."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found and len(found) < MOST_CAUSES:
        found.append(following)
        shown = following.__cause__ is not None or not following.__suppress_context__
        following = (following.__cause__ or following.__context__) if shown else None
    return found[::-1]


def named(error: BaseException, detail: ErrorDetail) -> str:
    """Returns the exception in one line: its class, and in `full` its text."""
    return repr(error) if detail == "full" else type(error).__name__


def shown(error: BaseException, detail: ErrorDetail, place_of: PlaceOf) -> str:
    """Returns the traceback in this detail; empty for `class`. `place_of` is of `frames` only."""
    if detail == "full":
        return "".join(traceback.format_exception(error))
    return frames(error, place_of) if detail == "frames" else ""


def frames(error: BaseException, place_of: PlaceOf) -> str:
    """Returns for each exception of the chain its frames, as `trainer.py:18 in train`, and a line with its class.

    Contains no text of an exception, no note, no value and no line of source code. Of many frames the last ones are shown.
    """
    parts = []
    for each in chain(error):
        lines = [*_places(each, place_of)][-MOST_FRAMES:]
        parts.append("\n".join([*lines, type(each).__name__]))
    return "\nled to:\n".join(parts)


def _places(error: BaseException, place_of: PlaceOf) -> Iterator[str]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = place_of(frame.f_code)
        if file is not None:
            yield f"{file}:{line} in {frame.f_code.co_name}"
