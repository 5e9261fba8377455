"""Spans of what a reducer decides: the round, the assignment of each plan, the aggregation."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import CoreEvent, Done, Effect, Failed, Publish, PublishEvent, Received
from fedmq.runtime.spans import OpenSpans, SpanKey, assignment_span, round_span
from fedmq_reducer.operations import Aggregate, RecordModel
from fedmq_schemas.messages import Partial, Plan


class ReducerTraces:
    """Observes a reducer's actor. A round that a predecessor began is traced from its record once it is committed."""

    def __init__(self, spans: OpenSpans) -> None:
        self._spans = spans

    def __call__(self, event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        """Begins and ends the spans of one step of the core."""
        match event:
            case Received(body=Partial() as partial):
                reason = "" if partial.sum else "; ".join(each.reason for each in partial.reasons) or "no update"
                plan, counts = partial.plan, {f"clients_{outcome}": count for outcome, count in partial.counts.items()}
                key = assignment_span(plan.session, plan.round, str(plan))
                self._spans.end(key, reason, combiner=event.envelope.sender, attempt=plan.attempt, **counts)
            case Done(effect=Aggregate() as aggregate):
                self._spans.end(_aggregate_span(aggregate), attempt=aggregate.attempt)
            case Failed(effect=Aggregate() as aggregate, error=error):
                self._spans.end(_aggregate_span(aggregate), error.reason, attempt=aggregate.attempt)
        for effect in answer:
            match effect:
                case Publish(body=Plan(plan=plan)) if plan.action == "train":
                    self._spans.begin(round_span(plan.session, plan.round))
                    self._spans.begin(assignment_span(plan.session, plan.round, str(plan)))
                case Aggregate():
                    self._spans.begin(_aggregate_span(effect))
                case PublishEvent(session=str() as session):
                    self._published(effect, session, answer)

    def _published(self, event: PublishEvent, session: str, answer: Sequence[Effect]) -> None:
        spans, number, reason = self._spans, event.round or 0, str(event.data.get("reason", ""))
        match event.name:
            case "round.planned":
                spans.begin(round_span(session, number))
            case "plan.voided" if "plan" in event.data:
                spans.end(
                    assignment_span(session, number, event.data["plan"]),
                    reason or "voided",
                    combiner=event.combiner or "",
                )
            case "round.retried":
                attempt, now = event.data["attempt"], spans.wall()
                spans.add(round_span(session, number).child("retry", str(attempt)), now, now, reason, attempt=attempt)
            case "round.committed":
                self._committed(event, round_span(session, number), answer)
            case "session.failed" | "session.stopped" | "session.finished":
                spans.end_session(session, reason or event.name)

    def _committed(self, event: PublishEvent, key: SpanKey, answer: Sequence[Effect]) -> None:
        """Ends the round. Its times are those of the record, so that a successor which repeats the event makes no other."""
        records = [effect.record for effect in answer if isinstance(effect, RecordModel)]
        at = next((record.created_at for record in records if record.session == key.session), self._spans.wall())
        counts = {f"clients_{outcome}": count for outcome, count in event.data["counts"].items()}
        self._spans.add(key, at - event.data["seconds"], at, attempt=event.data["attempt"], **counts)


def _aggregate_span(aggregate: Aggregate) -> SpanKey:
    return round_span(aggregate.session, aggregate.round).child("aggregate", str(aggregate.attempt))
