"""Logs for people and tools, one line a record: `time level name message key=value …`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedmq.visible import visible

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class OneLine(logging.Formatter):
    """Formats a record as one line: UTC time, level, logger, message, then the fields passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, with line ends and all other control characters escaped."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            extras["traceback"] = self.formatException(record.exc_info)
        words = [at, record.levelname.lower(), record.name, record.getMessage()]
        words += [f"{name}={_quoted(value)}" for name, value in extras.items()]
        return visible(" ".join(words))


class _Stderr(logging.StreamHandler[Any]):
    """Writes to the `sys.stderr` of the moment, which a live view replaces to put lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def _quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(character in text for character in ' "=\n') else text


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Sends warnings to stderr, and records of level info and above to `file`, until the end."""
    handlers = {logging.WARNING: _Stderr(), logging.INFO: logging.FileHandler(file, encoding="utf-8")}
    root = logging.getLogger()
    for level, handler in handlers.items():
        handler.setLevel(level)
        handler.setFormatter(OneLine())
        root.addHandler(handler)
    before = root.level
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in handlers.values():
            root.removeHandler(handler)
            handler.close()
