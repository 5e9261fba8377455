"""Names the place in a package's code that a running trainer has reached."""

import os
import re
from pathlib import Path
from types import CodeType, FrameType

DUMPED_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$', re.MULTILINE)
"""A call in what faulthandler writes: file, line, function."""


def place_in(package: Path, innermost: FrameType) -> str:
    """Returns the innermost call of the package's own code, such as `trainer.py:18 in train`.

    Of a trainer without code of its own on the stack, such as one of commands, the innermost call at all.
    """
    frame: FrameType | None = innermost
    while frame is not None:
        if (file := own_file(package, frame.f_code)) is not None:
            return _words(file, frame)
        frame = frame.f_back
    return _words(os.path.basename(innermost.f_code.co_filename), innermost)


def own_file(package: Path, code: CodeType) -> str | None:
    """Returns the file of a frame, relative to the package's folder; None if it is not of the package."""
    return own_path(package, code.co_filename)


def own_path(package: Path, path: str) -> str | None:
    """Returns the path of a file relative to the package's folder; None if the file is not in it."""
    if not os.path.isabs(path) or "\0" in path:  # such as "<string>"; the current folder may be gone
        return None
    folder, file = os.path.realpath(package), os.path.realpath(path)
    return os.path.relpath(file, folder) if file.startswith(folder + os.sep) else None


def _words(file: str, frame: FrameType) -> str:
    return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
