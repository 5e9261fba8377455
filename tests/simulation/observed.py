"""What is observed while a fault plan runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fedmq.records.base import Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Event, Plan


@dataclass(slots=True)
class Observed:
    """Collects, in order: `events`, those of sessions, rounds and absences that were published; `errors`, what the runtime
    logged as an error or refused; `broken`, the breaches that were seen during the run; `requested`, the clients of all
    published plans to validate, by session and round of the model."""

    events: list[Event] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    requested: dict[tuple[str, int], set[str]] = field(default_factory=dict)

    def note_plan(self, plan: Plan, records: Records) -> None:
        """A plan is published: whom it requests to validate must be recorded by now."""
        key = plan.plan
        if key.action == "validate":
            window = records.get(tables.WINDOWS, keys.round_record(key.session, key.round)) or {"requests": ()}
            recorded = {client for request in window["requests"] for client in request["clients"]}
            if unrecorded := sorted(set(plan.clients) - recorded):
                self.broken.append(f"plan {key} is published, and no record has its clients {unrecorded}")
            self.requested.setdefault((key.session, key.round), set()).update(plan.clients)

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


@contextmanager
def errors_collected(observed: Observed) -> Iterator[None]:
    """Adds what the runtime logs meanwhile to `observed.errors`, and prints none of it."""
    handler, logger = ErrorCollector(observed), logging.getLogger("fedmq")
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate, level = before
        logger.setLevel(level)
