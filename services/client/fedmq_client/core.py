"""The client's decisions. Pure.

A client asks for a combiner, says hello to it, and does one task after another. It trains once for a task: asked again,
by whichever combiner, it sends again the update that it keeps until the round is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from fedmq.effects import (
    Ack,
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
    StartTimer,
    Stopping,
)
from fedmq.newest import Newest
from fedmq_client.operations import (
    Abandon,
    AssignPart,
    Forget,
    ModelValidated,
    ProgressReported,
    RunTask,
    TaskFinished,
    TaskKey,
    TaskResult,
    Upload,
    task_key,
)
from fedmq_schemas import messages, topology
from fedmq_schemas.messages import Attach, BlobRef, Body, PlanKey, Task
from fedmq_schemas.policy import weight_of

ATTACH_AGAIN = 10.0
ATTACH_SOON = 1.0
ABANDON_AFTER = 5.0
ASK_URL_AGAIN = 1.0


class State(Enum):
    ATTACHING = "attaching"
    ATTACHED = "attached"
    LEAVING = "leaving"  # it begins nothing new, and finishes what it has begun
    LEFT = "left"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.ATTACHING: frozenset({State.ATTACHED, State.LEAVING}),
    State.ATTACHED: frozenset({State.ATTACHED, State.ATTACHING, State.LEAVING}),
    State.LEAVING: frozenset({State.LEFT}),
    State.LEFT: frozenset(),
}


class ClientCore:
    """`attach` is what the client says of itself; `kept` the finished work of a life before this one."""

    def __init__(self, name: str, attach: Attach, kept: Sequence[TaskResult] = ()) -> None:
        self.name = name
        self.state = State.ATTACHING
        self.combiner: str | None = None
        self._attach = attach
        self._presence = 10.0
        self._kept = {result.key: result for result in kept}
        self._validations: dict[TaskKey, messages.Validation] = {}
        self._queue: dict[TaskKey, Task] = {}
        self._task: Task | None = None
        self._newest = Newest()
        self._moment = Now(0.0, 0.0)
        self._asked_at: dict[TaskKey, float] = {}
        self._uploading = 0
        self._is_abandoning = False

    def handle(self, event: CoreEvent, moment: Now) -> Sequence[Effect]:
        self._moment = moment
        if self.state not in (State.LEAVING, State.LEFT):
            return self._handle(event)
        if self.state is State.LEFT or isinstance(event, Received | Fired | Started | Reconnected | Stopping):
            return ()
        return [*self._handle(event), *self._goodbye()]

    def _handle(self, event: CoreEvent) -> Sequence[Effect]:
        match event:
            case Received():
                return self._received(event)
            case TaskFinished(result):
                return self._worked(result)
            case ModelValidated():
                return self._validated(event)
            case ProgressReported(key, fraction, metrics):
                if self._task is None or task_key(self._task.plan) != key:
                    return ()
                body = messages.Progress(plan=self._task.plan, fraction=fraction, metrics=dict(metrics))
                return [self._to(self._task.combiner, body, confirm=False)]
            case Done(effect=Upload() as upload, result=BlobRef() as blob):
                self._uploading -= 1
                return [self._to(upload.task.combiner, self._update(upload, blob))]
            case Failed(effect=Upload() as upload):
                self._uploading -= 1
                return self._not_uploaded(upload)
            case Failed(effect=Publish(body=Attach())):
                return [StartTimer("attach", ATTACH_SOON)]
            case Failed(effect=Publish() as publish, error=error):
                return self._not_published(publish, error.reason)
            case Fired(key):
                return self._fired(key)
            case Started():
                return self._ask()
            case Reconnected():
                return self._back()
            case Stopping():
                return self._leave()
        return ()

    # -- attaching --------------------------------------------------------------------------------------------------

    def _ask(self) -> list[Effect]:
        key = topology.assignment_request_key(self.name)
        return [StartTimer("attach", ATTACH_AGAIN), Publish("assignment", key, self._attach)]

    def _hello(self) -> list[Effect]:
        return [StartTimer("presence", self._presence), self._to_combiner(messages.ClientHello())]

    def _back(self) -> list[Effect]:
        """After a lost connection the combiner may be another: a grant that told so may have gone unheard."""
        return self._ask() if self.state is State.ATTACHING else [*self._hello(), *self._ask()]

    def _granted(self, grant: messages.Grant) -> list[Effect]:
        """Every grant is followed by a hello: where nothing is new, the reducer may have missed that the client is there."""
        self.state, self.combiner, self._presence = State.ATTACHED, grant.combiner, grant.presence
        return [CancelTimer("attach"), AssignPart(grant.ordinal, grant.count), *self._hello()]

    def _leave(self) -> list[Effect]:
        """Begins nothing new. What is under way goes on, and its update is sent, as long as the process lets it."""
        self.state = State.LEAVING
        self._queue.clear()
        return self._goodbye()

    def _goodbye(self) -> list[Effect]:
        if self._task is not None or self._uploading:
            return []
        self.state = State.LEFT
        if self.combiner is None:
            return [Drained()]
        return [self._to_combiner(messages.ClientPresence(leaving=True)), Drained()]

    def _fired(self, key: str) -> Sequence[Effect]:
        if key == "attach":
            return self._ask()
        if key.startswith("hello:"):
            return [self._to(key.removeprefix("hello:"), messages.ClientHello())]
        if key == "presence":
            return [self._to_combiner(messages.ClientPresence(), confirm=False), StartTimer("presence", self._presence)]
        if self._task is not None and f"abandon:{self._task.plan}" == key:
            return self._abandon()
        return ()

    # -- messages ---------------------------------------------------------------------------------------------------

    def _received(self, event: Received) -> list[Effect]:
        match event.body:
            case Task() as task:
                return [Ack((event.tag,)), *self._asked(task)]
            case messages.Cancel() as cancel:
                return [Ack((event.tag,)), *self._cancelled(cancel)]
            case messages.Grant() as grant:
                return [Ack((event.tag,)), *self._granted(grant)]
            case messages.Wait(seconds=seconds):
                return [Ack((event.tag,)), StartTimer("attach", seconds)]
        return [Reject(event.tag, f"a client does not receive {event.body.kind} messages")]

    def _asked(self, task: Task) -> list[Effect]:
        key = task_key(task.plan)
        if self._is_superseded(task.plan):
            return []
        effects = self._outdate(key)
        self._asked_at.setdefault(key, self._moment.seconds)
        if key in self._validations:
            return [*effects, self._to_reducer(self._validations[key].model_copy(update={"plan": task.plan}))]
        if key in self._kept:
            return [*effects, *self._answer(task, self._kept[key])]
        if self._task is not None and task_key(self._task.plan) == key:
            self._task = task
            return effects
        first = {key: task} if key.action == "train" else {}
        self._queue = first | self._queue | {key: task}
        return effects + self._next()

    def _is_superseded(self, plan: PlanKey) -> bool:
        """Of a client's plans in an attempt, the last one is open."""
        place = (plan.round, plan.attempt, plan.part) if plan.action == "train" else ()
        return self._newest.is_superseded(plan.session, place)

    def _outdate(self, key: TaskKey) -> list[Effect]:
        """A task of a round says that the rounds before it are over, and that other sessions can wait."""
        if key.action != "train":
            return []
        old = [k for k in self._kept if k.session != key.session or k.round < key.round]
        stale = [k for k in self._queue if k.action == "train" and k.session == key.session and k.round < key.round]
        for outdated in stale:
            del self._queue[outdated]
        for outdated in old:
            del self._kept[outdated]
        for outdated in [k for k in self._asked_at if k.session != key.session or k.round < key.round]:
            del self._asked_at[outdated]
        effects: list[Effect] = [Forget(k.session, k.round + 1) for k in old if k.session != key.session]
        task = self._task
        if task is not None and task.plan.action == "train" and task_key(task.plan) != key:
            effects += self._abandon(start_next=False)
            if task.plan.session != key.session:
                self._queue[task_key(task.plan)] = task
        return effects

    def _cancelled(self, cancel: messages.Cancel) -> list[Effect]:
        key = task_key(cancel.plan)
        if key in self._queue and self._queue[key].plan == cancel.plan:
            del self._queue[key]
        if cancel.session_over:
            return self._session_over(cancel.plan.session)
        if self._task is not None and self._task.plan == cancel.plan:
            self._is_abandoning = True
            return [StartTimer(f"abandon:{cancel.plan}", ABANDON_AFTER)]
        return []

    def _session_over(self, session: str) -> list[Effect]:
        self._newest.end(session)
        for kept in [key for key in self._kept if key.session == session]:
            del self._kept[kept]
        for told in [key for key in self._validations if key.session == session]:
            del self._validations[told]
        for queued in [key for key in self._queue if key.session == session]:
            del self._queue[queued]
        effects: list[Effect] = [Forget(session)]
        if self._task is not None and self._task.plan.session == session:
            effects += self._abandon()
        return effects

    # -- work -------------------------------------------------------------------------------------------------------

    def _next(self) -> list[Effect]:
        if self._task is not None or not self._queue:
            return []
        self._task = self._queue.pop(next(iter(self._queue)))
        return [RunTask(self._task)]

    def _abandon(self, start_next: bool = True) -> list[Effect]:
        assert self._task is not None
        key, self._task = task_key(self._task.plan), None
        return [Abandon(key), *(self._next() if start_next else [])]

    def _validated(self, event: ModelValidated) -> list[Effect]:
        is_test = "train" not in self._attach.tasks
        body = messages.Validation(
            plan=event.task.plan,
            model=event.task.model.key,
            scope="test" if is_test else "client",
            weight=None if event.examples is None else weight_of(event.task.weighting, event.examples),
            metrics=event.metrics,
        )
        if event.task.plan.action == "validate":
            self._validations = {task_key(event.task.plan): body}
        return [self._to_reducer(body)]

    def _worked(self, result: TaskResult) -> list[Effect]:
        if self._task is None or task_key(self._task.plan) != result.key:
            return []
        task, self._task = self._task, None
        effects: list[Effect] = []
        if self._is_abandoning:
            self._is_abandoning = False
            effects.append(CancelTimer(f"abandon:{task.plan}"))
        if result.key.action == "train":
            if result.outcome == "done":
                self._kept[result.key] = result
            effects += self._answer(task, result)
        elif result.outcome != "done":
            body = messages.Validation(
                plan=task.plan, model=task.model.key, scope="test" if "train" not in self._attach.tasks else "client",
                weight=None, metrics={}, reason=result.reason,
            )  # fmt: skip
            effects.append(self._to_reducer(body))
        return effects + self._next()

    def _answer(self, task: Task, result: TaskResult) -> list[Effect]:
        if result.outcome == "done":
            self._uploading += 1
            return [Upload(task, result, self._moment.seconds)]
        reason, traceback = result.reason[:2000], result.traceback[-8000:]
        body = messages.Decline(plan=task.plan, outcome=result.outcome, reason=reason, traceback=traceback)
        return [self._to(task.combiner, body)]

    def _update(self, upload: Upload, blob: BlobRef) -> messages.Update:
        task, result = upload.task, upload.result
        return messages.Update(
            plan=task.plan,
            model=task.model.key,
            blob=blob,
            weight=weight_of(task.weighting, result.examples),
            metrics=result.metrics,
            seconds=self._seconds(upload),
        )

    def _seconds(self, upload: Upload) -> dict[str, float]:
        """Where the time went, with `total`: since the task was first received in this life."""
        now, result = self._moment.seconds, upload.result
        total = now - self._asked_at.get(result.key, now)
        return {**result.seconds, "upload": now - upload.since, "total": total}

    def _not_uploaded(self, upload: Upload) -> list[Effect]:
        """A hello to who asked brings the task again, with fresh URLs, as long as it is wanted."""
        return [StartTimer(f"hello:{upload.task.combiner}", ASK_URL_AGAIN)]

    def _not_published(self, publish: Publish, reason: str) -> list[Effect]:
        """Metrics that no message can hold: whoever waits is told so instead."""
        match publish.body:
            case messages.Update(plan=plan):
                told: Body = messages.Decline(plan=plan, outcome="failed", reason=reason)
            case messages.Validation() as validation if validation.metrics:
                told = validation.model_copy(update={"metrics": {}, "reason": reason})
            case _:
                return []
        return [Publish(publish.exchange, publish.routing_key, told)]

    def _to_combiner(self, body: Body, confirm: bool = True) -> Publish:
        assert self.combiner is not None
        return self._to(self.combiner, body, confirm)

    def _to_reducer(self, body: Body) -> Publish:
        return self._to(topology.REDUCER, body)

    def _to(self, receiver: str, body: Body, confirm: bool = True) -> Publish:
        return Publish("update", topology.update_key(receiver, self.name), body, confirm=confirm)
