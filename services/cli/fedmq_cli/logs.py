"""Logs for people and tools, one line a record: `time level name message key=value …`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedmq.reasons import alike
from fedmq.visible import visible
from fedmq_cli.output import say, short

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
    """Writes to the `sys.stderr` of the moment, which a live view replaces to put lines above itself.

    Of FedMQ's own records that differ in numbers only, the first one is written, and the others are counted.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self._counts: dict[tuple[str, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record if none before it was alike."""
        if record.name.startswith("fedmq"):  # any other one may be the trainer's
            key = alike(record.name, record.getMessage())
            self._counts[key] = self._counts.get(key, 0) + 1
            if self._counts[key] > 1:
                return
        super().emit(record)

    def write_counts(self, file: Path) -> None:
        """Writes how many records were not written, with the file that holds all of them."""
        left = sum(self._counts.values()) - len(self._counts)
        if left:
            lines = "line" if left == 1 else "lines"
            say(f"{left} more log {lines} like those above: see {short(str(file))}", err=True)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _LogFile(logging.FileHandler):
    """Writes to a file. A record that can't be written is lost, which is reported once: the run does not depend on it."""

    _is_reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Reports the cause, for example a full disk."""
        self._report(sys.exception())

    def close(self) -> None:
        """Closes the file, which writes lines that could not be written before."""
        try:
            super().close()
        except OSError as error:
            self._report(error)

    def _report(self, error: BaseException | None) -> None:
        if not self._is_reported:
            self._is_reported = True
            say(f"{short(self.baseFilename)} can't be written, and lacks lines: {error}", err=True)


def _quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(character in text for character in ' "=\n') else text


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Sends warnings to stderr, alike ones once, and all records of level info and above to `file`, until the end."""
    shown = _Stderr()
    handlers: dict[int, logging.Handler] = {
        logging.WARNING: shown,
        logging.INFO: _LogFile(file, encoding="utf-8"),
    }
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
        shown.write_counts(file)
