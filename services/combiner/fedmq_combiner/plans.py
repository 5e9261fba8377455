"""The data of a plan at a combiner: its state, its tasks, and the messages that it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from fedmq.reasons import absence
from fedmq.runtime.effects import CancelTimer
from fedmq.runtime.routines import Routine
from fedmq.value import value
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef, Decline, Partial, Plan, PlanKey, Update, UploadRequest
from fedmq_schemas.policy import weight_objection
from fedmq_schemas.records import LedgerEntry, Outcome

MOST_CONTENTS = 8
"""Updates of one task, with different contents, that a client may upload."""


class PlanState(Enum):
    """How far a plan has come."""

    OPENING = "opening"  # its model's shape, its clients and a checkpoint are being read; answers wait
    OPEN = "open"  # tasks are sent, updates are folded as they arrive
    SAVING = "saving"  # a checkpoint is being written; answers wait
    CLOSING = "closing"  # the partial is being written; answers are late
    CLOSED = "closed"  # the partial is published; answers are late
    VOID = "void"  # superseded


class Ready:
    """The course of an open plan receives this when the plan is complete or a checkpoint is due."""


@value
class ClientAnswer:
    """A client's answer to its task, or its request to upload one. `tag`: its delivery.

    `sent_at`: UTC seconds since 1970 on the client's clock.
    """

    client: str
    body: Update | Decline | UploadRequest
    tag: int
    sent_at: float


@value
class Verdict:
    """The outcome that an answer gives its task. `norm` and `blob`, the stored update, are None if nothing was folded."""

    outcome: Outcome
    reason: str = ""
    norm: float | None = None
    traceback: str = ""
    blob: BlobRef | None = None


@dataclass(slots=True)
class TaskState:
    """One client's task.

    `entry`: its outcome, if it has one. `answers`: those without a verdict. The first answer is being folded; the later ones
    count only if it is invalid. `place`: where in its code the trainer was shortly before the deadline. `permitted`: the
    hashes of the updates for which the client has a ticket.
    """

    entry: LedgerEntry | None = None
    answers: list[ClientAnswer] = field(default_factory=list)
    place: str = ""
    permitted: set[str] = field(default_factory=set)


@dataclass(slots=True)
class OpenPlan:
    """A plan that this combiner knows.

    - `incarnation`: see `operations`.
    - `due_at`: the deadline on the monotonic clock; `is_due` once it has passed.
    - `held`: deliveries whose outcome is not durable yet. A checkpoint is due when there are `hold_at_most` of them, or when
      the first one has waited for ten minutes (`is_save_due`).
    - `early`: answers that wait until the plan is open or its checkpoint is written.
    - `folding`, `answered`: how many updates are being folded, and how many tasks have an outcome.
    - `judging`: the routines of clients with an update that is being folded.
    - `course`: the plan's own routine, set before it starts.
    - `most_bytes`, `binds_uploads`: see `operations.Opened`.
    """

    message: Plan
    incarnation: int
    hold_at_most: int
    due_at: float
    course: Routine = field(init=False)
    key: PlanKey = field(init=False)
    name: str = field(init=False)
    is_training: bool = field(init=False)
    state: PlanState = PlanState.OPENING
    tasks: dict[str, TaskState] = field(default_factory=dict)
    judging: dict[str, Routine] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    early: list[ClientAnswer] = field(default_factory=list)
    folding: int = 0
    answered: int = 0
    is_due: bool = False
    is_save_due: bool = False
    partial: Partial | None = None
    most_bytes: int = 0
    binds_uploads: bool = True

    def __post_init__(self) -> None:
        self.key = self.message.plan
        self.name = str(self.key)
        self.is_training = self.key.action == "train"

    @property
    def is_under_way(self) -> bool:
        """Whether the plan is neither answered nor void."""
        return self.state not in (PlanState.CLOSED, PlanState.VOID)

    # -- timers -----------------------------------------------------------------------------------------------------

    @property
    def save_timer(self) -> str:
        """The key of the timer after which a checkpoint is due."""
        return f"save:{self.name}"

    def cancel_timers(self) -> tuple[CancelTimer, CancelTimer]:
        """Returns the effects that cancel the plan's timers."""
        return CancelTimer(f"deadline:{self.name}"), CancelTimer(self.save_timer)

    # -- tasks ------------------------------------------------------------------------------------------------------

    def open(self, clients: Iterable[str], outcomes: Iterable[LedgerEntry]) -> None:
        """Gives each client a task. `outcomes`: those of tasks that have one already."""
        self.state = PlanState.OPEN
        self.tasks = {client: TaskState() for client in clients}
        for entry in outcomes:
            if entry.client in self.tasks:
                self.settle(entry)

    def pending(self, clients: Iterable[str]) -> list[str]:
        """Returns those of the clients that have a task and have not answered it."""
        tasks = ((client, self.tasks.get(client)) for client in clients)
        return [client for client, task in tasks if task is not None and task.entry is None and not task.answers]

    def settle(self, entry: LedgerEntry) -> None:
        """Gives a task an outcome, or replaces its outcome."""
        task = self.tasks[entry.client]
        self.answered += task.entry is None
        task.entry = entry

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Returns the ledger's entries, sorted by client. A client whose task has no outcome is absent."""
        return tuple(
            task.entry or LedgerEntry(client=client, outcome="absent", reason=self._absence(task.place))
            for client, task in sorted(self.tasks.items())
        )

    def _absence(self, place: str) -> str:
        return absence(self.message.timeout, place, "timeout") if place else "no answer by the deadline"

    def objection(self, answer: ClientAnswer) -> str | None:
        """Returns why the answer is not considered, or None."""
        task, body = self.tasks.get(answer.client), answer.body
        entry = task.entry if task is not None else None
        objection = None
        if entry is not None and entry.outcome == "accepted":
            same = entry.blob is not None and _hash_of(body) == entry.blob.sha256
            objection = "a duplicate: already accepted" if same else "another update of this task was accepted before"
        elif self.state in (PlanState.CLOSING, PlanState.CLOSED):
            objection = "late: the plan is closed"
        elif self.state is PlanState.VOID:
            objection = "superseded: the plan is void"
        elif task is None:
            objection = "the client has no task in this plan"
        elif not self.is_training:
            objection = "misplaced: the reducer receives the answers to a validation"
        elif isinstance(body, Update) and body.model != self.message.model.key:
            objection = f"stale: it starts from model {body.model}, the plan's is {self.message.model.key}"
        return objection

    def may_have_task(self, client: str) -> bool:
        """Returns whether the client has a task. While the plan is being opened, its message may list no clients."""
        return client in self.tasks or client in self.message.clients

    def rejection(self, client: str, body: Update | UploadRequest) -> str | None:
        """Returns why an update is rejected before its blob is read, or before it is uploaded; or None.

        An update has at most `most_bytes`. A client may name only a blob that it has uploaded itself, and weigh no more than
        the policy allows.
        """
        size = body.size if isinstance(body, UploadRequest) else body.blob.size
        if size > self.most_bytes:
            return f"its blob of {size} bytes is larger than an update of this model can be"
        if isinstance(body, UploadRequest):
            return None
        place = body.plan.session, body.plan.round, client
        prefix = keys.upload_prefix(*place)
        if not body.blob.key.startswith(prefix) and not keys.is_earlier_upload(body.blob.key, *place):
            return f"its blob {body.blob.key!r} is not under {prefix!r}"
        return weight_objection(self.message.weighting, self.message.max_weight, body.weight)

    def permit(self, client: str, sha256: str) -> bool:
        """Notes that the client may upload this content, and returns True; False once it may upload MOST_CONTENTS others.

        A client that loses its update and trains again has another content, which happens rarely. Without the limit one
        task could fill the store.
        """
        permitted = self.tasks[client].permitted
        if len(permitted) < MOST_CONTENTS:
            permitted.add(sha256)
        return sha256 in permitted

    def upload_key(self, client: str, sha256: str) -> str:
        """Returns where the client may upload its update: under the key that holds its hash, if the store binds uploads."""
        name = keys.update_blob if self.binds_uploads else keys.upload_blob
        return name(self.key.session, self.key.round, client, sha256)

    # -- progress ---------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Resumes the course if the plan is complete or a checkpoint is due, but not while an update is being folded."""
        if not self.folding:
            self.close_if_complete()
            if self.state is not PlanState.OPEN or self.is_checkpoint_due:
                self.course.offer(Ready())

    def close_if_complete(self) -> None:
        """Stops to accept answers once all clients have answered or the deadline has passed, and nothing is being folded."""
        if self.state is PlanState.OPEN and not self.folding and (self.is_due or self.answered == len(self.tasks)):
            self.state = PlanState.CLOSING

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether a checkpoint is to be written now. It never is while an update is being folded."""
        return not self.folding and bool(self.held) and (self.is_save_due or len(self.held) >= self.hold_at_most)

    def postpone_checkpoint(self) -> None:
        """Postpones the next checkpoint until twice as many messages are held, or its timer fires."""
        self.hold_at_most *= 2
        self.is_save_due = False

    def take_held(self) -> tuple[int, ...]:
        """Returns the deliveries that are held, whose outcomes are durable now. They are no longer held."""
        tags, self.held, self.is_save_due = tuple(self.held), [], False
        return tags

    def take_early(self) -> list[ClientAnswer]:
        """Returns the early answers, at most once."""
        taken, self.early = self.early, []
        return taken

    def take_answers(self) -> list[ClientAnswer]:
        """Returns all answers without a verdict: early ones, those that are being folded, and those that wait for these."""
        taken = self.take_early()
        for task in self.tasks.values():
            taken += task.answers
            task.answers.clear()
        return taken

    def stop(self) -> None:
        """Closes the routines. The answers to their questions are ignored from now on."""
        self.course.close()
        for routine in self.judging.values():
            routine.close()
        self.judging.clear()


def _hash_of(body: Update | Decline | UploadRequest) -> str | None:
    match body:
        case Update(blob=blob):
            return blob.sha256
        case UploadRequest(sha256=sha256):
            return sha256
    return None
