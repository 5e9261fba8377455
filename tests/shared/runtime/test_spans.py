"""Ids of traces are derived from what the messages name, so that processes agree on them without a context on the wire."""

from __future__ import annotations

import pytest

from fedmq.runtime import spans as module
from fedmq.runtime.spans import (
    OpenSpans,
    SpanKey,
    TraceSpan,
    assignment_span,
    job_span,
    round_span,
    span_id,
    task_span,
    trace_id,
    update_span,
)
from fedmq_schemas.messages import PlanKey

PLAN = PlanKey(session="s", round=3, attempt=2, part=1)
TASK = task_span(PLAN, "c1", "message-1")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Clock, OpenSpans, list[TraceSpan]]:
    clock, found = Clock(), list[TraceSpan]()
    return clock, OpenSpans("a", clock, found.append), found


def test_the_same_message_gives_the_same_ids_in_every_process_and_version() -> None:
    again = task_span(PlanKey.model_validate(PLAN.model_dump()), "c1", "message-1")

    assert (trace_id("a", TASK), span_id("a", TASK)) == (trace_id("a", again), span_id("a", again))
    # Processes of different versions add to one trace, so these numbers must stay.
    assert (f"{trace_id('a', TASK):032x}", f"{span_id('a', TASK):016x}") == (
        "4c4a37e3b487acf9e18a4ada687a1d54",
        "7a533f2add3a3251",
    )


@pytest.mark.parametrize("plan", [PlanKey(session="s", round=4), PlanKey(session="t", round=3)])
def test_another_round_or_session_is_another_trace(plan: PlanKey) -> None:
    assert trace_id("a", job_span(plan)) != trace_id("a", job_span(PLAN))


def test_another_alliance_is_another_trace_though_its_sessions_have_the_same_names() -> None:
    assert trace_id("a", TASK) != trace_id("b", TASK)
    assert span_id("a", TASK) != span_id("b", TASK)


def test_an_attempt_a_part_a_client_and_a_message_have_spans_of_their_own_in_one_trace() -> None:
    keys = [
        TASK,
        task_span(PLAN, "c1", "message-2"),
        task_span(PLAN, "c2", "message-1"),
        task_span(PLAN.model_copy(update={"attempt": 1}), "c1", "message-1"),
        task_span(PLAN.model_copy(update={"part": 0}), "c1", "message-1"),
    ]

    assert len({span_id("a", key) for key in keys}) == 5
    assert len({trace_id("a", key) for key in keys}) == 1


def test_names_that_join_to_the_same_text_are_different_spans() -> None:
    keys = [SpanKey("s", 1, (("task", "ab"), ("c", ""))), SpanKey("s", 1, (("task", "a"), ("bc", "")))]

    assert len({span_id("a", key) for key in keys}) == 2


def test_the_parents_lead_from_a_clients_step_up_to_the_round() -> None:
    parents, key = [], TASK.child("train").parent
    while key is not None:
        parents.append(key)
        key = key.parent

    job = job_span(PLAN)
    assert parents == [TASK, update_span(PLAN, "c1"), job, assignment_span("s", 3, str(PLAN)), round_span("s", 3)]


def test_a_span_is_exported_once_though_its_message_is_delivered_again() -> None:
    clock, spans, found = opened()
    for _ in range(2):
        spans.begin(TASK)
        clock.now += 2.0
        spans.end(TASK, client="c1")

    [span] = found
    assert (span.kind, span.began, span.ended, span.reason) == ("task", 100.0, 102.0, "")
    assert span.parent_id == span_id("a", update_span(PLAN, "c1"))
    assert span.attributes == {"session": "s", "round": 3, "client": "c1"}


def test_a_repeated_begin_leaves_the_first_one() -> None:
    clock, spans, found = opened()
    spans.begin(TASK)
    clock.now += 5.0
    spans.begin(TASK)
    spans.end(TASK)

    assert found[0].began == 100.0


def test_what_has_not_begun_does_not_end() -> None:
    _, spans, found = opened()
    spans.end(TASK)

    assert found == []


def test_a_clock_that_is_set_back_makes_no_span_that_ends_before_it_begins() -> None:
    clock, spans, found = opened()
    spans.begin(TASK)
    clock.now -= 30.0
    spans.end(TASK)

    assert (found[0].began, found[0].ended) == (100.0, 100.0)


def test_a_job_that_ends_for_a_reason_ends_what_is_open_below_it_and_nothing_else() -> None:
    _, spans, found = opened()
    other = job_span(PLAN.model_copy(update={"part": 0}))
    for key in (job_span(PLAN), update_span(PLAN, "c1"), other):
        spans.begin(key)
    spans.end_below(job_span(PLAN), "voided")

    assert [(span.kind, span.reason) for span in found] == [("update", "voided"), ("job", "voided")]
    spans.end(other)
    assert found[-1].reason == ""


def test_the_end_of_a_session_ends_its_spans_alone() -> None:
    _, spans, found = opened()
    for session in ("s", "t"):
        spans.begin(round_span(session, 1))
    spans.end_session("s", "stopped")

    assert [(span.attributes["session"], span.reason) for span in found] == [("s", "stopped")]


def test_spans_that_nobody_ends_are_forgotten_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 3)
    _, spans, found = opened()
    for number in range(5):
        spans.begin(round_span("s", number))
    for number in range(5):
        spans.end(round_span("s", number))

    assert [span.attributes["round"] for span in found] == [2, 3, 4]
