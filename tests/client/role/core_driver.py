"""The client's core under test, in the words of the protocol.

    client = ClientDriver(ClientCore("c1", Attach()))
    client.start()
    client.attach("k1")
    effects = client.request(task(plan(1)))
    upload = one(client.finish(plan(1)), Upload)
    effects = client.done(upload, blob("updates/c1"))

Beside the account of every core (see `support.cores`), it counts requests and outcomes of each task and follows the work
under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from fedmq.runtime.effects import CoreEvent, Effect, Failed, Publish, Received, Stopping
from fedmq_client.role.core import ClientCore, State
from fedmq_client.role.operations import (
    Abandon,
    Measure,
    Measured,
    ModelScores,
    ModelValidated,
    ProgressReported,
    RunTask,
    TaskFinished,
    TaskKey,
    TaskResult,
    Upload,
    task_key,
)
from fedmq_schemas.messages import (
    BlobRef,
    Cancel,
    Decline,
    Grant,
    PlanKey,
    TaskMessage,
    TaskName,
    Ticket,
    Update,
    UploadRequest,
    Validation,
)
from support.cores import Driver, all_of, blob, bodies, received

Outcome = Literal["done", "abstained", "failed"]

MODEL = blob("models/m", 10)
SENT = blob("updates/c1", 20)


def plan(
    number: int = 1, action: TaskName = "train", *, session: str = "s1", attempt: int = 1, part: int = 0
) -> PlanKey:
    return PlanKey(session=session, round=number, attempt=attempt, part=part, action=action)


def task(of: PlanKey, *, combiner: str = "k1", weighting: str = "examples", **fields: Any) -> TaskMessage:
    known = {"plan": of, "client": "c1", "combiner": combiner, "model": MODEL, "timeout": 60.0, "rounds": 3, "seed": 1}
    return TaskMessage.model_validate({**known, "weighting": weighting, **fields})


def ticket(request: UploadRequest, **changes: Any) -> Ticket:
    blob = BlobRef(key=SENT.key, size=request.size, sha256=request.sha256)
    return Ticket(plan=request.plan, blob=blob, url="memory://1/put", headers={"x": "1"}).model_copy(update=changes)


def begun(effects: Sequence[Effect]) -> list[PlanKey]:
    """Returns the plans on which work begins."""
    return [work.task.plan for work in all_of(effects, RunTask)]


def abandoned(effects: Sequence[Effect]) -> list[TaskKey]:
    """Returns the tasks on which work is stopped."""
    return [effect.key for effect in all_of(effects, Abandon)]


def finished(
    of: PlanKey,
    outcome: Outcome = "done",
    *,
    examples: int = 5,
    metrics: Mapping[str, Any] | None = None,
    reason: str = "",
    traceback: str = "",
    seconds: Mapping[str, float] | None = None,
) -> TaskResult:
    """Returns the end of the work on a task. Metrics and times are those of a trainer that reports none by default."""
    return TaskResult(task_key(of), outcome, examples, dict(metrics or {}), b"delta", reason, traceback, seconds or {})


class ClientDriver(Driver):
    """Hands events to the core of the client `c1`, and checks at the end of a test what holds for any course of events.

    `permits`: the driver measures each update and answers the request for its ticket at once, so that the event which
    began its upload has the effect `Upload`."""

    def __init__(self, core: ClientCore) -> None:
        super().__init__(core)
        self.permits = True
        self.client = core
        self.working: PlanKey | None = None
        self._requests: Counter[TaskKey] = Counter()
        self._outcomes: Counter[TaskKey] = Counter()
        self._is_cancelled = False

    # -- events -----------------------------------------------------------------------------------------------------

    def attach(self, combiner: str = "k1", *, ordinal: int = 0, count: int = 1, presence: float = 10.0) -> list[Effect]:
        grant = Grant(combiner=combiner, ordinal=ordinal, count=count, presence=presence)
        return self.receive(grant, sender="reducer")

    def request(self, requested: TaskMessage) -> list[Effect]:
        return self.receive(requested, sender=requested.combiner)

    def cancel(self, of: PlanKey, *, session_over: bool = False) -> list[Effect]:
        return self.receive(Cancel(plan=of, session_over=session_over), sender="k1")

    def finish(self, of: PlanKey, outcome: Outcome = "done", **reported: Any) -> list[Effect]:
        return self.handle(TaskFinished(finished(of, outcome, **reported)))

    def score(
        self, of: PlanKey, examples: int | None = 5, *, weighting: str = "examples", **metrics: Any
    ) -> list[Effect]:
        """The received model was validated on the client's data."""
        return self.handle(ModelValidated(task(of, weighting=weighting), ModelScores(examples, metrics)))

    def progress(self, of: PlanKey, fraction: float, place: str = "", **metrics: Any) -> list[Effect]:
        return self.handle(ProgressReported(task_key(of), fraction, metrics, place))

    def measured(self, measure: Measure) -> list[Effect]:
        return self.done(measure, Measured(SENT.size, SENT.sha256))

    def permit(self, request: UploadRequest, **changes: Any) -> list[Effect]:
        """Delivers a ticket for the request."""
        return self.receive(ticket(request, **changes), sender="k1")

    def uploaded(self, upload: Upload) -> list[Effect]:
        return self.done(upload, SENT)

    def stop(self) -> list[Effect]:
        return self.handle(Stopping())

    # -- invariants -------------------------------------------------------------------------------------------------

    def handle(self, event: CoreEvent) -> list[Effect]:
        match event:
            case Received(body=TaskMessage(plan=requested)):
                self._requests[task_key(requested)] += 1
            case Received(body=Cancel(plan=cancelled)) if cancelled == self.working:
                self._is_cancelled = True
            case TaskFinished(result) if self.working is not None and result.key == task_key(self.working):
                self.working, self._is_cancelled = None, False
            case Failed(effect=Publish(body=body)):
                self._count(body, -1)
        effects = super().handle(event)
        for effect in effects:
            self._follow(effect)
        if self.permits:
            for measure in all_of(effects, Measure):
                effects[effects.index(measure) : effects.index(measure) + 1] = self._permit(measure)
        return effects

    def _permit(self, measure: Measure) -> list[Effect]:
        tag = -len(self.timers) - 1_000 * self.tag - 1  # no delivery's
        [request] = bodies(self.measured(measure), UploadRequest)
        self._unsettled[tag] = request
        return all_of(self.handle(received(ticket(request), "k1", tag=tag)), Upload)

    def check(self) -> None:
        """As for every core, while the client is attached or wants to be; what a leaving client has not settled goes back
        into its mailbox. And no task has more outcomes than requests."""
        if self.client.state in (State.ATTACHING, State.ATTACHED):
            super().check()
        for key, count in self._outcomes.items():
            assert count <= self._requests[key], f"{count} outcomes of {key}, requested {self._requests[key]} times"
        if self.client.state in (State.ATTACHING, State.ATTACHED):
            assert not self.unsettled, f"{self.unsettled} are neither acknowledged nor rejected"
            assert {State.ATTACHING: "attach", State.ATTACHED: "presence"}[self.client.state] in self.timers
            assert not self._is_cancelled or any(key.startswith("abandon:") for key in self.timers)
        if self.client.state is State.LEAVING:
            waits = any(key.startswith("ticket:") for key in self.timers)
            assert self.working is not None or self.unanswered or waits, "the client stays for nothing"

    def _follow(self, effect: Effect) -> None:
        match effect:
            case RunTask(started):
                assert self.working is None, f"{started.plan} begins while {self.working} is under way"
                self.working = started.plan
            case Abandon(key):
                assert self.working is not None and task_key(self.working) == key
                self.working, self._is_cancelled = None, False
            case Publish(body=body):
                self._count(body, 1)

    def _count(self, body: object, by: int) -> None:
        match body:
            case Update(plan=of) | Decline(plan=of):
                self._outcomes[task_key(of)] += by
            case Validation(plan=of) if of.action == "validate":
                self._outcomes[task_key(of)] += by


NewClient = Callable[..., ClientDriver]
"""Makes and starts a client: what it attaches with (optional), and the finished work of an earlier life."""
