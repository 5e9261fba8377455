"""One plan at a combiner: its states, its tasks, and the messages it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from fedmq.effects import Received
from fedmq.errors import ProtocolError
from fedmq_schemas.messages import Decline, Partial, Plan, Update
from fedmq_schemas.records import LedgerEntry


class PlanState(Enum):
    OPENING = "opening"  # its model's shape, its clients and a checkpoint are being fetched
    OPEN = "open"  # tasks are out, updates are folded as they come
    SAVING = "saving"  # a checkpoint is being written; what arrives waits
    CLOSING = "closing"  # the partial is being written
    CLOSED = "closed"  # answered; what arrives is late
    VOID = "void"  # superseded


TRANSITIONS: dict[PlanState, frozenset[PlanState]] = {
    PlanState.OPENING: frozenset({PlanState.OPEN, PlanState.VOID}),
    PlanState.OPEN: frozenset({PlanState.SAVING, PlanState.CLOSING, PlanState.VOID}),
    PlanState.SAVING: frozenset({PlanState.OPEN, PlanState.VOID}),
    PlanState.CLOSING: frozenset({PlanState.CLOSED, PlanState.VOID}),
    PlanState.CLOSED: frozenset({PlanState.VOID}),
    PlanState.VOID: frozenset(),
}


@dataclass(slots=True)
class TaskState:
    """One client's task. `entry` once it has an outcome; `folding` while its update is in the works, and since when on
    the monotonic clock; `rivals` are later messages for the same task, looked at only if the first one turns out to be
    invalid."""

    entry: LedgerEntry | None = None
    folding: Received | None = None
    folding_since: float | None = None
    rivals: list[Received] = field(default_factory=list)


@dataclass(slots=True)
class OpenPlan:
    """`incarnation` tells effects of this plan from those of the same plan before a reconnect. `held` are the tags of
    messages whose effect is not durable yet. `due_at`: the deadline on the monotonic clock. `folding`, `answered`: how
    many tasks are in the works, and have an outcome."""

    plan: Plan
    incarnation: int
    due_at: float
    state: PlanState = PlanState.OPENING
    tasks: dict[str, TaskState] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    early: list[Received] = field(default_factory=list)
    folding: int = 0
    answered: int = 0
    is_due: bool = False
    partial: Partial | None = None

    def move(self, state: PlanState) -> None:
        """Raises ProtocolError, and changes nothing, if the table has no such step."""
        if state not in TRANSITIONS[self.state]:
            raise ProtocolError(f"plan {self.plan.plan} can't go from {self.state.value} to {state.value}")
        self.state = state

    def open(self, clients: Iterable[str], saved: Iterable[LedgerEntry]) -> None:
        """The plan's clients are known; `saved` are the outcomes of a checkpoint."""
        self.move(PlanState.OPEN)
        self.tasks = {client: TaskState() for client in clients}
        for entry in saved:
            if entry.client in self.tasks:
                self.settle(entry)

    @property
    def is_training(self) -> bool:
        return self.plan.plan.action == "train"

    def pending(self) -> list[str]:
        """Clients that have not answered."""
        return [client for client, task in self.tasks.items() if task.entry is None and task.folding is None]

    @property
    def is_folding(self) -> bool:
        return self.folding > 0

    @property
    def is_complete(self) -> bool:
        return self.answered == len(self.tasks)

    def begin(self, client: str, message: Received, now: float) -> None:
        """The client's update is in the works from now on."""
        task = self.tasks[client]
        task.folding, task.folding_since = message, now
        self.folding += 1

    def finish(self, client: str) -> tuple[Received, list[Received]] | None:
        """The work on the client's update has ended: its message and the rivals; None if there was none."""
        task = self.tasks.get(client)
        if task is None or task.folding is None:
            return None
        message, task.folding = task.folding, None
        rivals, task.rivals = task.rivals, []
        self.folding -= 1
        return message, rivals

    def settle(self, entry: LedgerEntry) -> None:
        """The task has an outcome; a later one replaces it."""
        task = self.tasks[entry.client]
        self.answered += task.entry is None
        task.entry = entry

    def objection(self, client: str, update: Update | Decline) -> str | None:
        """Why a message for this plan is not considered, or None."""
        task = self.tasks.get(client)
        entry = task.entry if task is not None else None
        if entry is not None and entry.outcome == "accepted":
            same = isinstance(update, Update) and entry.blob is not None and update.blob.sha256 == entry.blob.sha256
            return "a duplicate: already accepted" if same else "another update of this task was accepted before"
        if self.state in (PlanState.CLOSING, PlanState.CLOSED):
            return "late: the plan is closed"
        if self.state is PlanState.VOID:
            return "superseded: the plan is void"
        if task is None:
            return "the client has no task in this plan"
        if isinstance(update, Update) and update.model != self.plan.model.key:
            return f"stale: it starts from model {update.model}, the plan's is {self.plan.model.key}"
        return None

    def entries(self) -> tuple[LedgerEntry, ...]:
        """The ledger's entries, sorted by client; who has not answered is absent."""
        return tuple(
            task.entry or LedgerEntry(client=client, outcome="absent", reason="no answer by the deadline")
            for client, task in sorted(self.tasks.items())
        )

    def take_waiting(self) -> list[Received]:
        """Messages that have no outcome yet: early ones, those in the works, and their rivals."""
        waiting, self.early = self.early, []
        for task in self.tasks.values():
            if task.folding is not None:
                waiting += [task.folding, *task.rivals]
                task.folding, task.rivals = None, []
        return waiting

    def take_held(self) -> tuple[int, ...]:
        tags = tuple(self.held)
        self.held.clear()
        return tags
