"""Spans of a client's work for a training: the task, and in it the fetching, the training and the upload."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import CoreEvent, Done, Effect, Failed, Publish, Received
from fedmq.runtime.spans import OpenSpans, SpanKey, task_span
from fedmq_client.role.operations import Abandon, RunTask, TaskFinished, TaskKey, TaskResult, Upload, task_key
from fedmq_schemas.messages import BlobRef, Body, Cancel, Decline, PlanKey, TaskMessage, Update


class ClientTraces:
    """Observes a client's actor. A reason in a span is what the client reports of an error, not what its log has."""

    def __init__(self, spans: OpenSpans, client: str) -> None:
        self._spans = spans
        self._client = client
        self._tasks: dict[TaskKey, tuple[PlanKey, SpanKey]] = {}
        self._run_at: dict[TaskKey, float] = {}

    def __call__(self, event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        """Begins and ends the spans of one step of the core."""
        match event:
            case Received(body=body, envelope=envelope):
                self._received(body, envelope.id)
            case TaskFinished(result=result):
                self._worked(result)
            case Done(effect=Upload(task=task), result=BlobRef(size=size)):
                if (known := self._tasks.get(task_key(task.plan))) is not None:
                    self._spans.end(known[1].child("upload"), bytes=size)
            case Failed(effect=Upload(task=task), error=error):
                self._end(task_key(task.plan), error.reason)
        for effect in answer:
            match effect:
                case RunTask(task=task):
                    self._run_at[task_key(task.plan)] = self._spans.wall()
                case Upload(task=task) if (known := self._tasks.get(task_key(task.plan))) is not None:
                    self._spans.begin(known[1].child("upload"))
                case Abandon(key=key):
                    self._run_at.pop(key, None)
                    self._end(key, "the work was stopped: it was cancelled, or a later task was requested")
                case Publish(body=Update(plan=plan)):
                    self._end(task_key(plan), outcome="done")
                case Publish(body=Decline(plan=plan, outcome=outcome, reason=reason)):
                    self._end(task_key(plan), reason if outcome == "failed" else "", outcome=outcome)

    def _received(self, body: Body, message_id: str) -> None:
        match body:
            case TaskMessage(plan=plan) if plan.action == "train":
                self._requested(plan, message_id)
            case Cancel(plan=plan, session_over=True):
                for key in [key for key in self._tasks if key.session == plan.session]:
                    self._end(key, "the session is over")
            case Cancel(plan=plan) if task_key(plan) not in self._run_at:  # else it may still be answered
                self._end(task_key(plan), "cancelled")

    def _requested(self, plan: PlanKey, message_id: str) -> None:
        """Begins the span of a request, unless the same work is requested already for the same plan or a later one."""
        newest = task_key(plan)
        known = self._tasks.get(newest)
        if known is not None and (known[0].attempt, known[0].part) >= (plan.attempt, plan.part):
            return
        for key in [key for key in self._tasks if key == newest or newest.ends(key)]:
            self._end(key, "a later task was requested")
        span = task_span(plan, self._client, message_id)
        self._tasks[newest] = plan, span
        self._spans.begin(span)

    def _worked(self, result: TaskResult) -> None:
        """Adds the spans of fetching and training. Work that could fetch its model says in how many seconds."""
        run_at, known = self._run_at.pop(result.key, None), self._tasks.get(result.key)
        if run_at is None or known is None:
            return
        now, reason = self._spans.wall(), result.reason if result.outcome == "failed" else ""
        fetch, train = known[1].child("fetch"), known[1].child("train")
        if "fetch" not in result.seconds:
            self._spans.add(fetch, run_at, now, reason)
            return
        fetched = run_at + result.seconds["fetch"]
        self._spans.add(fetch, run_at, fetched)
        seconds = {f"seconds_{step}": value for step, value in result.seconds.items() if step != "fetch"}
        self._spans.add(train, fetched, now, reason, examples=result.examples, outcome=result.outcome, **seconds)

    def _end(self, key: TaskKey, reason: str = "", outcome: str = "failed") -> None:
        """Ends a task, and an upload under way in it for the same reason."""
        if (known := self._tasks.pop(key, None)) is not None:
            plan, span = known
            self._spans.end(span.child("upload"), reason)
            self._spans.end(span, reason, client=self._client, attempt=plan.attempt, outcome=outcome)
