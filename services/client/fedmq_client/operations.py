"""What a client's core asks its app to do, and what the app tells it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fedmq.effects import CoreEvent, Perform
from fedmq.frozen import frozen
from fedmq_schemas.messages import BlobRef, Metrics, PlanKey, Task

SMALL = 1_000_000


class TaskKey(NamedTuple):
    """What a client does once, however often it is asked: (session, round, action)."""

    session: str
    round: int
    action: str


def task_key(plan: PlanKey) -> TaskKey:
    return TaskKey(plan.session, plan.round, plan.action)


@frozen
class Finished:
    """The end of a task's work. `update`: the delta (train, done), kept until the round is over. `examples` is what the
    trainer said; `seconds` where the time went."""

    key: TaskKey
    outcome: Literal["done", "abstained", "failed"]
    examples: int = 0
    metrics: Metrics = field(default_factory=dict)
    update: bytes | Path | None = None
    reason: str = ""
    traceback: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)


@frozen
class Work(Perform):
    """Fetch the model, validate it (if the task says so), train. The app tells `Validated`, `Progressed`, and at the end
    `Worked`."""

    task: Task


@frozen
class Abandon(Perform):
    """Stop the work on this task; nothing more is told of it."""

    key: TaskKey


@frozen
class Deliver(Perform):
    """Upload a finished update where the task says. Reports its BlobRef. `since`: when it was asked for, on the monotonic
    clock."""

    task: Task
    finished: Finished
    since: float

    reports = True
    independent = True

    @property
    def heavy(self) -> bool:
        return self.task.upload_url.startswith("http") or self.task.model.size > SMALL


@frozen
class Forget(Perform):
    """Rounds of this session before `before_round` are over, all of them where that is None: drop what is kept."""

    session: str
    before_round: int | None = None

    independent = True


@frozen
class Place(Perform):
    """The client's part of a common data set."""

    ordinal: int
    count: int


@frozen
class Validated(CoreEvent):
    """The received model's metrics on the client's data."""

    plan: PlanKey
    model: BlobRef
    examples: int | None
    metrics: Metrics


@frozen
class Progressed(CoreEvent):
    """The trainer's own report."""

    key: TaskKey
    fraction: float
    metrics: Mapping[str, Any]


@frozen
class Worked(CoreEvent):
    """The work on a task has ended."""

    finished: Finished
