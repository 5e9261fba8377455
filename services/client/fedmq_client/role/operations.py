"""Effects that a client's core asks its runner for, and events that the runner reports to the core. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fedmq.runtime.effects import CoreEvent, Perform, Question
from fedmq.value import value
from fedmq_schemas.messages import BlobRef, Metrics, PersonalStart, PlanKey, TaskMessage, Ticket

SMALL = 1_000_000


class TaskKey(NamedTuple):
    """Names what a client runs once, however often requested. All attempts and parts of a round have one key."""

    session: str
    round: int
    action: str

    def ends(self, other: TaskKey) -> bool:
        """Returns whether a request for the training `self` shows that `other` is of an earlier round of its session."""
        return other.session == self.session and other.round < self.round


def task_key(plan: PlanKey) -> TaskKey:
    """Returns the key of the tasks of a plan."""
    return TaskKey(plan.session, plan.round, plan.action)


@value
class ModelScores:
    """The metrics of a model on the client's data, from `examples` of them; None: their number is not known.

    `reason`: why a validation before training has no metrics; `traceback`: of one that failed. `notes` say what the
    metrics lack.
    """

    examples: int | None
    metrics: Metrics
    notes: Sequence[str] = ()
    reason: str = ""
    traceback: str = ""


@value
class TaskResult:
    """How a task ended.

    `update`: the delta of a training that is done; `seconds`: the duration of each step; `personal`: how the client's
    private state began, if the task says `continue`; `scores`: those of the received model, if the training validated it.
    """

    key: TaskKey
    outcome: Literal["done", "abstained", "failed"]
    examples: int = 0
    metrics: Metrics = field(default_factory=dict)
    update: bytes | Path | None = None
    reason: str = ""
    traceback: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    personal: PersonalStart | None = None
    scores: ModelScores | None = None


# -- effects --------------------------------------------------------------------------------------------------------


@value
class RunTask(Perform):
    """Runs a task. The runner reports `ModelValidated`, `ProgressReported`, and at the end `TaskFinished`.

    `ends`: the task's deadline on the monotonic clock, at which the work is stopped.
    """

    task: TaskMessage
    ends: float


@value
class Abandon(Perform):
    """Stops the work on this task. The runner reports nothing more about it."""

    key: TaskKey


@value
class Measure(Question["Measured"]):
    """Reads a finished update, for size and hash. `since`: when its upload was decided, on the monotonic clock."""

    task: TaskMessage
    result: TaskResult
    since: float

    independent = True

    @property
    def heavy(self) -> bool:
        """Whether it may take long: the update of a large model."""
        return self.task.model.size > SMALL


@value
class Measured:
    """Size in bytes and SHA-256 of an update."""

    size: int
    sha256: str


@value
class Upload(Question[BlobRef]):
    """Stores a finished update; answered by its BlobRef. `since`: when it was decided, on the monotonic clock.

    `ticket` is None if the task holds the URL, which a combiner of release 0.2 sends.
    """

    task: TaskMessage
    result: TaskResult
    since: float
    ticket: Ticket | None = None

    independent = True

    @property
    def url(self) -> str:
        """The URL to which the update is put."""
        return self.task.upload_url if self.ticket is None else self.ticket.url

    @property
    def key(self) -> str:
        """The key under which the update is stored."""
        return self.task.upload_key if self.ticket is None else self.ticket.blob.key

    @property
    def heavy(self) -> bool:
        """Whether it may take long: over the network, or of a large model."""
        return self.url.startswith("http") or self.task.model.size > SMALL


@value
class Forget(Perform):
    """Deletes the kept updates and states of the rounds of `session` before `before_round`, as `Store.forget` does.

    With None the session is over: its newest state is filed.
    """

    session: str
    before_round: int | None = None

    independent = True


@value
class AssignPart(Perform):
    """Makes part `ordinal` of `count` of a common data set the client's own."""

    ordinal: int
    count: int


# -- events ---------------------------------------------------------------------------------------------------------


@value
class ModelValidated(CoreEvent):
    """The client has validated the model that a task names. `abstained`: there are no metrics, and nothing failed."""

    task: TaskMessage
    scores: ModelScores
    abstained: bool = False


@value
class ProgressReported(CoreEvent):
    """The trainer reported the fraction of a task that is done, with metrics of its own.

    `place`: where in its code the trainer is shortly before the deadline, else "".
    """

    key: TaskKey
    fraction: float
    metrics: Mapping[str, Any]
    place: str = ""


@value
class TaskFinished(CoreEvent):
    """The work on a task has ended."""

    result: TaskResult
