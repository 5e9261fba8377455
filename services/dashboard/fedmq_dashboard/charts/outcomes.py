"""The outcomes of tasks, round by round. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard.components import Element
from fedmq_dashboard.figures import OUTCOME_COLOURS, bar, figure, outcome_word, whole_rounds
from fedmq_schemas.records import OUTCOMES


def draw(rounds: Sequence[Document], late: Mapping[int, int]) -> Element:
    """Returns the plot. `late` maps a round to its updates after the plan was closed, which are absent in the ledger."""
    if not rounds:
        return c.empty("No round is committed yet.")
    numbers = [document["round"] for document in rounds]
    traces = []
    totals = {}
    for outcome in OUTCOMES:
        counts = [_count(document, outcome, late.get(document["round"], 0)) for document in rounds]
        totals[outcome] = sum(counts)
        if totals[outcome]:
            word = outcome_word(outcome)
            traces.append(bar(word, numbers, counts, OUTCOME_COLOURS[outcome], f"round %{{x}}: %{{y}} {word}"))
    summary = ", ".join(f"{count:,} {outcome_word(outcome)}" for outcome, count in totals.items() if count)
    axes = {"xaxis": whole_rounds(numbers), "yaxis": {"rangemode": "tozero"}}
    shape = figure(traces, x="round", y="tasks", barmode="stack", bargap=0.15, **axes)
    return c.graph("outcomes", shape, f"Over all rounds: {summary}.", 340)


def _count(document: Document, outcome: str, late: int) -> int:
    counts = document["counts"]
    late = min(late, counts.get("absent", 0))
    if outcome == "discarded":
        return int(counts.get(outcome, 0)) + late
    return int(counts.get(outcome, 0)) - (late if outcome == "absent" else 0)
