"""Each round has a trace of its own: a tree from the round down to the steps of each client, with why a step failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fedmq.runtime.spans import TraceSpan, round_span, trace_id
from fedmq_schemas import records as tables
from simulation.alliance import ALLIANCE
from simulation.plans import FaultPlan, draw
from simulation.properties import deadline
from simulation.traced import TracedSimulation

PARENTS = {
    "round": None,
    "assignment": "round",
    "aggregate": "round",
    "retry": "round",
    "job": "assignment",
    "update": "job",
    "task": "update",
    "fetch": "task",
    "train": "task",
    "upload": "task",
}


@contextmanager
def traced(plan: FaultPlan) -> Iterator[TracedSimulation]:
    run = TracedSimulation(plan)
    try:
        run.run(deadline(plan))
        yield run
    finally:
        run.close()


def of(spans: list[TraceSpan], kind: str) -> list[TraceSpan]:
    return [span for span in spans if span.kind == kind]


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_a_committed_round_is_one_tree_of_every_step_of_every_client(seed: int) -> None:
    with traced(draw(seed).undisturbed()) as run:
        rounds = run.world.records.inner.find(tables.ROUNDS)
        assert rounds
        for committed in rounds:
            session, number = committed["session"], committed["round"]
            trace = trace_id(ALLIANCE.alliance, round_span(session, number))
            spans = [span for span in run.all_spans if span.trace_id == trace]
            by_id = {span.span_id: span for span in spans}
            clients = committed["counts"]["accepted"]

            assert len(by_id) == len(spans)
            for span in spans:
                parent = None if span.parent_id is None else by_id[span.parent_id]
                assert PARENTS[span.kind] == (None if parent is None else parent.kind)
                assert parent is None or span.began >= parent.began
            found = Counter(span.kind for span in spans)
            assert found["round"] == found["aggregate"] == 1
            assert found["assignment"] == found["job"] >= 1
            assert {found[kind] for kind in ("update", "task", "fetch", "train", "upload")} == {clients}
            assert not any(span.reason for span in spans)
            [whole] = of(spans, "round")
            assert whole.ended == committed["committed_at"]
            assert whole.ended - whole.began == pytest.approx(committed["seconds"])
            assert whole.attributes["clients_accepted"] == clients


def test_the_seconds_of_a_training_are_those_of_its_span() -> None:
    plan = draw(3).undisturbed()
    lasts = {client.name: client.seconds for client in plan.clients}
    with traced(plan) as run:
        for life, spans in run.spans.items():
            for span in of(spans, "train"):
                assert span.ended - span.began == pytest.approx(lasts[life.partition("#")[0]])


def test_a_trainers_error_is_the_status_of_its_task_and_of_the_update() -> None:
    plan = draw(3).undisturbed()
    failing = replace(plan.clients[0], moods={1: "fail"})
    policy = plan.sessions[0].model_copy(update={"clients_required": 1})
    with traced(replace(plan, clients=(failing, *plan.clients[1:]), sessions=(policy,))) as run:
        failed = [span for span in run.all_spans if span.reason]

    assert Counter(span.kind for span in failed) == {"train": 1, "task": 1, "update": 1}
    assert {span.reason for span in failed} == {"a trainer's own error"}
    assert {span.attributes.get("client") for span in failed} == {None, failing.name}


def test_a_round_that_no_attempt_completes_fails_with_the_reason_of_its_session() -> None:
    with traced(draw(0).undisturbed()) as run:
        [ended] = run.ended.values()
        [whole] = of(run.all_spans, "round")
        retries = of(run.all_spans, "retry")

    assert ended["state"] == "failed"
    assert whole.reason == ended["reason"]
    assert [span.attributes["attempt"] for span in retries] == [1, 2]
    assert all("round 1 got" in span.reason for span in retries)
    assert {"absent", "tensor 'layer' holds NaN"} == {span.reason for span in of(run.all_spans, "update")} - {""}


def test_a_client_that_dies_is_absent_in_its_combiners_span_which_its_own_ones_would_be_under() -> None:
    plan = draw(3).undisturbed()
    lazy = replace(plan.clients[0], seconds=10_000.0)
    policy = plan.sessions[0].model_copy(update={"clients_required": 1, "timeout": 60.0})
    with traced(replace(plan, clients=(lazy, *plan.clients[1:]), sessions=(policy,))) as run:
        absent = [span for span in of(run.all_spans, "update") if span.attributes["client"] == lazy.name]

    assert absent
    assert {(span.reason, span.attributes["outcome"]) for span in absent} == {("absent", "absent")}


@pytest.mark.parametrize("seed", range(0, 60, 6))
def test_under_faults_no_process_exports_a_span_twice_and_every_committed_round_has_its_span(seed: int) -> None:
    with traced(draw(seed)) as run:
        for name, spans in run.spans.items():
            assert len({span.span_id for span in spans}) == len(spans), name
        whole = {(span.attributes["session"], span.attributes["round"]): span for span in of(run.all_spans, "round")}
        for committed in run.observed.named("round.committed"):
            assert whole[committed.session or "", committed.round or 0].reason == ""
        for span in run.all_spans:
            assert span.ended >= span.began
            assert (span.parent_id is None) == (span.kind == "round")
