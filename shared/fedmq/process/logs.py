"""Logs of a service: one JSON object a line on stderr, for machines to collect."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""Fields of a record that are no `extra`. `color_message` is uvicorn's message again, with codes of a terminal."""


class JsonLine(logging.Formatter):
    """A line has `at` (UTC), `level`, `logger`, `message`, the fields of every line, then those passed as `extra`."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = dict(fields)

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one JSON object; values that JSON can't represent become text."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_service_logs(level: str, **fields: str) -> None:
    """Sends logs of at least `level` to stderr as JSON lines, and nowhere else. Idempotent."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLine(fields))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("pika", "urllib3", "pymongo"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("pika.connection").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Returns False for what pika logs as critical while a connection is closed in order, with its channels open."""
    return "non-CLOSING channels" not in record.getMessage()


def log_last_words(reason: str) -> bool:
    """Logs why the process ends. Returns False, and logs nothing, in a process whose log is not of JSON lines."""
    is_json = any(isinstance(handler.formatter, JsonLine) for handler in logging.getLogger().handlers)
    if is_json:
        logging.getLogger("fedmq").critical("%s", reason)
    return is_json
