"""What is observed while a fault plan runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from fedmq_schemas.messages import Event


@dataclass(slots=True)
class Observed:
    """Collects, in order: `events`, those of sessions and rounds that were published; `errors`, what the runtime logged as
    an error or refused; `broken`, the breaches that were seen during the run."""

    events: list[Event] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


class ErrorCollector(logging.Handler):
    """Adds each error that the runtime logs, and each message that it refuses, to `observed.errors`."""

    def __init__(self, observed: Observed) -> None:
        super().__init__(logging.WARNING)
        self._observed = observed

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            text = getattr(record, "traceback", record.getMessage())
            self._observed.errors.append(f"{getattr(record, 'actor', record.name)}: {text}")
        elif record.getMessage() == "message refused":
            self._observed.errors.append(f"{record.actor} refused a message: {record.reason}")  # type: ignore[attr-defined]
