"""Logs for people and tools, one line a record: `time level name message key=value …`."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class OneLine(logging.Formatter):
    """Formats a record as one line: UTC time, level, logger, message, then the fields passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, with line ends escaped."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            extras["traceback"] = self.formatException(record.exc_info)
        words = [at, record.levelname.lower(), record.name, record.getMessage()]
        words += [f"{name}={_quoted(value)}" for name, value in extras.items()]
        return " ".join(words).replace("\n", "\\n")


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


def configure_logs(level: str = "info", file: Path | None = None) -> None:
    """Sends logs of at least `level` to stderr, and those of at least info to `file`. Repeatable."""
    handlers: list[logging.Handler] = [_Stderr()]
    handlers[0].setLevel(level.upper())
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        handlers[1].setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(OneLine())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, OneLine):
            root.removeHandler(old)
            old.close()
    root.handlers += handlers
    root.setLevel(min(handler.level for handler in handlers))
