"""Names the place in a package's code that a running trainer has reached."""

import os
from pathlib import Path
from types import FrameType


def place_in(package: Path, innermost: FrameType) -> str:
    """Returns the innermost call of the package's own code, such as `trainer.py:18 in train`.

    Of a trainer without code of its own on the stack, such as one of commands, the innermost call at all.
    """
    folder = os.path.realpath(package)
    frame: FrameType | None = innermost
    while frame is not None:
        file = os.path.realpath(frame.f_code.co_filename)
        if file.startswith(folder + os.sep):
            return _words(os.path.relpath(file, folder), frame)
        frame = frame.f_back
    return _words(os.path.basename(innermost.f_code.co_filename), innermost)


def _words(file: str, frame: FrameType) -> str:
    return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
