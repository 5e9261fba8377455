"""Spans of a combiner's work: its job for a plan, and for each client the time from its task to the outcome."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import CoreEvent, Effect, Publish, PublishEvent, Received
from fedmq.runtime.spans import OpenSpans, SpanKey, assignment_span, job_span, update_span
from fedmq_schemas.messages import Partial, Plan, TaskMessage, VoidPlan

FAILURES = ("rejected", "failed", "absent")
OUTCOMES = (*FAILURES, "accepted", "abstained")


class CombinerTraces:
    """Observes a combiner's actor."""

    def __init__(self, spans: OpenSpans, combiner: str) -> None:
        self._spans = spans
        self._combiner = combiner
        self._updates: dict[tuple[str, int | None, str], SpanKey] = {}

    def __call__(self, event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        """Begins and ends the spans of one step of the core."""
        match event:
            case Received(body=Plan(plan=plan)) if plan.action == "train":
                self._spans.begin(job_span(plan))
            case Received(body=VoidPlan(plans=plans, session=session)):
                for plan in plans:
                    self._spans.end_below(job_span(plan), "the reducer has voided the plan")
                if session is not None:
                    self._spans.end_session(session, "the session is over")
                    self._updates = {key: span for key, span in self._updates.items() if span.session != session}
        for effect in answer:
            match effect:
                case Publish(body=TaskMessage(plan=plan, client=client)) if plan.action == "train":
                    span = self._updates[plan.session, plan.round, client] = update_span(plan, client)
                    self._spans.begin(span)
                case PublishEvent(name="plan.voided", session=str() as session, round=int() as number):
                    job = assignment_span(session, number, effect.data["plan"]).child("job")
                    self._spans.end_below(job, effect.data["reason"])
                case PublishEvent() if effect.name.startswith("update."):
                    self._settled(effect, effect.name.removeprefix("update."))
                case Publish(body=Partial() as partial):
                    self._answered(partial)

    def _settled(self, event: PublishEvent, outcome: str) -> None:
        """Ends the span of a client's update, if the event is its outcome and not that of a repeated one."""
        if outcome not in OUTCOMES:
            return
        span = self._updates.pop((event.session or "", event.round, event.client or ""), None)
        if span is not None:
            reason = (event.data.get("reason") or outcome) if outcome in FAILURES else ""
            seconds = {f"seconds_{step}": value for step, value in event.data.get("seconds", {}).items()}
            about = {"client": event.client or "", "combiner": self._combiner, "outcome": outcome}
            self._spans.end(span, reason, **about, **seconds)

    def _answered(self, partial: Partial) -> None:
        counts = {f"clients_{outcome}": count for outcome, count in partial.counts.items()}
        reason = "" if partial.sum else "no update was accepted"
        self._spans.end(job_span(partial.plan), reason, combiner=self._combiner, attempt=partial.plan.attempt, **counts)
