"""The client's decisions. Pure.

A client attaches to a combiner (`attachment`), runs one task at a time (`tasks`), and answers each request (`answers`). It
trains once for a round. If the same training is requested again, by any combiner, the client publishes the update that it
keeps until the round is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from fedmq.runtime.effects import (
    Ack,
    Broken,
    CancelTimer,
    CoreEvent,
    Done,
    Drained,
    Effect,
    Failed,
    Fired,
    Now,
    Publish,
    Received,
    Reconnected,
    Reject,
    Started,
    Stopping,
)
from fedmq_client.role.answers import Answers
from fedmq_client.role.attachment import Attachment, publish_to
from fedmq_client.role.operations import (
    Measure,
    Measured,
    ModelValidated,
    ProgressReported,
    TaskFinished,
    TaskResult,
    Upload,
    task_key,
)
from fedmq_client.role.tasks import Tasks, abandon_timer
from fedmq_client.role.uploads import is_ticket_timer
from fedmq_schemas.limits import LONGEST_NOTE, safe
from fedmq_schemas.messages import (
    About,
    Attach,
    BlobRef,
    Cancel,
    ClientPresence,
    DuplicateClient,
    Grant,
    Progress,
    TaskMessage,
    Ticket,
    UpdateOutcome,
    Wait,
)


class State(Enum):
    """Where a client stands between start and end."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    LEAVING = "leaving"  # begins no task, and finishes the one under way
    LEFT = "left"


class ClientCore:
    """The client's core. `attach` presents the client; `kept` are updates that were finished before a restart."""

    def __init__(self, name: str, attach: Attach, kept: Sequence[TaskResult] = ()) -> None:
        self.name = name
        self._attachment = Attachment(name, attach)
        self._tasks = Tasks()
        self._answers = Answers(name, attach.tasks, kept)
        self._at_hand: TaskMessage | None = None
        self._is_leaving = False
        self._has_left = False

    @property
    def combiner(self) -> str | None:
        """The combiner that was granted last."""
        return self._attachment.combiner

    @property
    def state(self) -> State:
        """The state after the last event."""
        if self._is_leaving:
            return State.LEFT if self._has_left else State.LEAVING
        return State.ATTACHING if self.combiner is None else State.ATTACHED

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        """Returns the effects of an event. An exception on it, which is a bug, costs the task at hand: see `_broken`."""
        if not isinstance(event, Broken):
            self._at_hand = self._task_of(event)
        match self.state:
            case State.LEFT:
                return self._refused_after_goodbye(event)
            case State.LEAVING if self._is_for_the_next_process(event):
                return []
            case State.LEAVING:
                return [*self._handle(event, now.seconds), *self._leave_if_ready()]
        return [*self._handle(event, now.seconds), *self._tasks.run_next(now.seconds)]

    def _handle(self, event: CoreEvent, now: float) -> list[Effect]:  # noqa: PLR0911 (a table: one return an event)
        match event:
            case Received():
                return self._received(event, now)
            case TaskFinished(result):
                return self._finished(result, now)
            case ModelValidated():
                return self._answers.validated(event)
            case ProgressReported():
                return self._progress(event)
            case Done(effect=Measure() as measure, result=Measured() as measured):
                return self._answers.measured(measure, measured)
            case Done(effect=Upload() as upload, result=BlobRef() as blob):
                self._answers.uploads.ended()
                return [self._answers.uploaded(upload, blob, now)]
            case Failed():
                return self._failed(event)
            case Fired(timer):
                ticket = self._answers.uploads.fired(timer, self._is_leaving)
                return [*ticket, *self._attachment.fired(timer), *self._tasks.fired(timer)]
            case Started():
                return self._attachment.request()
            case Reconnected():
                return self._attachment.reconnect()
            case Stopping():
                return self._leave()
            case Broken():
                return self._broken(event, now)
        return []

    def _failed(self, event: Failed) -> list[Effect]:
        match event.effect:
            case Upload(ticket=Ticket()) as upload:
                return self._answers.not_uploaded(upload, self._is_leaving)
            case Upload(task=task) | Measure(task=task):
                self._answers.uploads.ended()
                return self._attachment.hello_later(task.combiner)
            case Publish(body=Attach()):
                return self._attachment.request_later()
            case Publish() as publish:
                return self._answers.refused(publish, event.error.reason)
        return []

    # -- messages ---------------------------------------------------------------------------------------------------

    def _received(self, event: Received, now: float) -> list[Effect]:
        match event.body:
            case TaskMessage() as task:
                effects = self._requested(task, now)
            case Cancel() as cancel:
                effects = self._cancelled(cancel)
            case Ticket() as ticket:
                effects = self._answers.uploads.permitted(ticket)
            case Grant() as grant:
                effects = self._attachment.grant(grant)
            case Wait(seconds=seconds):
                effects = self._attachment.request_later(seconds)
            case DuplicateClient() as found:
                effects = self._attachment.duplicate(found)
            case UpdateOutcome() | About():
                effects = []  # for the site's log alone, and for `fedmq doctor`
            case _:
                return [Reject(event.tag, f"a client does not receive {event.body.kind} messages")]
        return [Ack((event.tag,)), *effects]

    def _requested(self, task: TaskMessage, now: float) -> list[Effect]:
        if self._tasks.is_late(task.plan):
            return []
        outdated = self._answers.outdate(task.plan)
        return [*outdated, *(self._answers.repeat(task, now) or self._tasks.add(task, now))]

    def _cancelled(self, cancel: Cancel) -> list[Effect]:
        if not cancel.session_over:
            return self._tasks.cancel(cancel.plan)
        session = cancel.plan.session
        return [*self._answers.end_session(session), *self._tasks.end_session(session)]

    # -- work -------------------------------------------------------------------------------------------------------

    def _finished(self, result: TaskResult, now: float) -> list[Effect]:
        if result.outcome == "failed" and not self._is_leaving and (again := self._tasks.run_again(result.key, now)):
            return again
        task = self._tasks.finish(result.key)
        if task is None:
            return []
        # A combiner that cancels a task has reported the client as absent, or the plan as void: it would discard a failure.
        is_awaited = result.outcome == "done" or not self._tasks.is_cancelled
        answer = self._answers.answer(task, result, now) if is_awaited else []
        return [CancelTimer(abandon_timer(task.plan)), *answer]

    def _task_of(self, event: CoreEvent) -> TaskMessage | None:
        """Returns the task whose answer depends on this event."""
        match event:
            case Received(body=TaskMessage() as task) | Done(effect=Upload(task=task) | Measure(task=task)):
                return task
            case Received(body=Ticket() as ticket):
                return self._answers.uploads.waiting(ticket)
            case ModelValidated(task=task) if task.plan.action == "validate":
                return task
            case TaskFinished(result=result):
                return self._tasks.of(result.key)
        return None

    def _broken(self, broken: Broken, now: float) -> list[Effect]:
        """Declines the task at hand with the reason, so that nobody waits for its answer, and goes on with the next one."""
        task, self._at_hand = self._at_hand, None
        if task is None:
            return []
        if isinstance(broken.event, TaskFinished):
            self._tasks.finish(broken.event.result.key)
        failed = TaskResult(task_key(task.plan), "failed", reason=broken.error.reason)
        return self._answers.answer(task, failed, now)

    def _progress(self, event: ProgressReported) -> list[Effect]:
        task = self._tasks.under_way
        if task is None or task_key(task.plan) != event.key:
            return []
        place = safe(event.place)[:LONGEST_NOTE]
        body = Progress(plan=task.plan, fraction=event.fraction, metrics=dict(event.metrics), place=place)
        return [publish_to(task.combiner, self.name, body, confirm=False)]

    # -- leaving ----------------------------------------------------------------------------------------------------

    def _leave(self) -> list[Effect]:
        """Begins no further task. Work and uploads under way go on, as long as the process lives, and are answered."""
        self._is_leaving = True
        return self._leave_if_ready()

    def _is_for_the_next_process(self, event: CoreEvent) -> bool:
        """Returns whether the next process is to handle the event: any message but a ticket for a finished update."""
        match event:
            case Received(body=Ticket() as ticket):
                return self._answers.uploads.waiting(ticket) is None
            case Fired(timer):
                return not is_ticket_timer(timer)
        return isinstance(event, Received | Started | Reconnected | Stopping)

    def _leave_if_ready(self) -> list[Effect]:
        if self._tasks.under_way is not None or self._answers.uploads:
            return []
        self._has_left = True
        return self._goodbye()

    def _goodbye(self) -> list[Effect]:
        return [*self._attachment.leave(), Drained()]

    def _refused_after_goodbye(self, event: CoreEvent) -> list[Effect]:
        """Repeats the goodbye if a message before it was refused: a refusal drops the rest of the message's group."""
        match event:
            case Failed(effect=Publish(body=ClientPresence())):
                return [Drained()]
            case Failed(effect=Publish() as publish, error=error):
                return [*self._answers.refused(publish, error.reason), *self._goodbye()]
        return []
