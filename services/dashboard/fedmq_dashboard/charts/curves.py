"""Metrics of a session's models: the clients' median in a band from least to most, and the evaluator's line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from fedmq.records.base import Document
from fedmq.records.durations import began_at
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Element
from fedmq_dashboard.figures import BAND, INNER_BAND, SERIES, TEST, Trace, figure, line, whole_rounds

TRAINING = "training "
_UNITS: dict[str, tuple[tuple[tuple[float, str], ...], str]] = {
    "hours": (((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds")), "{} since the start"),
    "bytes": (((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")), "{} sent to clients and received"),
}
_DRAWN = ("min", "q1", "median", "q3", "max", "mean")


def names(trail: Sequence[Document], rounds: Sequence[Document]) -> list[str]:
    """Returns the names that can be plotted: metrics of validations, then those that trainers reported."""
    validated = words.metric_names(model["metrics"] for model in trail)
    known = list(dict.fromkeys(name.removeprefix("test/") for name in validated))
    return known + [TRAINING + name for name in words.metric_names(document["metrics"] for document in rounds)]


def draw(
    session: Document | None, trail: Sequence[Document], rounds: Sequence[Document], metric: str | None, axis: str
) -> Element:
    """Returns the plot of one metric."""
    if session is None or metric is None:
        return c.empty("No model has been validated yet: the first metrics come with the first round.")
    places = positions_of(session, rounds, axis)
    scale, unit = scale_of(axis, places.values())
    positions = {number: place / scale for number, place in places.items()}
    if metric.startswith(TRAINING):
        by_round = {document["round"]: document["metrics"] for document in rounds}
    else:
        by_round = {model["round"]: model["metrics"] for model in trail}
    numbers = [number for number in sorted(by_round) if number in positions]
    clients = [
        (positions[number], by_round[number][key])
        for number in numbers
        for key in [metric.removeprefix(TRAINING)]
        if key in by_round[number]
    ]
    tests = [
        (positions[number], by_round[number][f"test/{metric}"])
        for number in numbers
        if f"test/{metric}" in by_round[number]
    ]
    traces = _client_traces(clients) + _test_trace(tests)
    if not traces:
        return c.empty(f"No client and no evaluator has reported {metric} in this session.")
    marks = whole_rounds(places.values()) if axis == "round" else {}
    shape = figure(traces, x=unit, y=metric, hovermode="x unified", xaxis=marks)
    return c.graph("curves", shape, _sentence(metric, clients, tests), 340)


def positions_of(session: Document, rounds: Sequence[Document], axis: str) -> dict[int, float]:
    """Returns the place of each round's model on the x axis: rounds, seconds or bytes. 0 is the session's first model.

    Time counts from the start of the session, without its time in the queue.
    """
    numbers = [document["round"] for document in rounds]
    if axis == "hours":
        began = began_at(session)
        return {0: 0.0} | {document["round"]: max(0.0, document["committed_at"] - began) for document in rounds}
    if axis == "bytes":
        sent = (float(sum(document.get("bytes", {}).values())) for document in rounds)
        return {0: 0.0} | dict(zip(numbers, accumulate(sent), strict=True))
    return {0: 0.0} | {number: float(number) for number in numbers}


def scale_of(axis: str, places: Iterable[float]) -> tuple[float, str]:
    """Returns the size of the unit that suits these places, and the title of the axis."""
    if axis == "round":
        return 1.0, "round"
    units, title = _UNITS[axis]
    largest = max(places, default=0.0)
    size, unit = next(((size, unit) for size, unit in units if largest >= 2 * size), units[-1])
    return size, title.format(unit)


def _client_traces(points: Sequence[tuple[float, Document]]) -> list[Trace]:
    if not points:
        return []
    x = [position for position, _ in points]
    column = {name: [summary.get(name, summary["median"]) for _, summary in points] for name in _DRAWN}
    bands: list[Trace] = []
    if any(summary["n"] > 1 for _, summary in points):
        bands = _band("all clients", BAND, x, column["min"], column["max"])
        bands += _band("middle half", INNER_BAND, x, column["q1"], column["q3"])
    return [
        *bands,
        line("clients' median", x, column["median"], SERIES[0]),
        line("clients' mean", x, column["mean"], SERIES[0], line={"dash": "dot", "width": 1.5}, mode="lines"),
    ]


def _band(name: str, colour: str, x: Sequence[float], low: Sequence[Any], high: Sequence[Any]) -> list[Trace]:
    edge: Trace = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip"}
    below = edge | {"y": low, "showlegend": False}
    return [below, edge | {"y": high, "name": name, "fill": "tonexty", "fillcolor": colour}]


def _test_trace(points: Sequence[tuple[float, Document]]) -> list[Trace]:
    x, y = [position for position, _ in points], [summary["mean"] for _, summary in points]
    return [line("test set", x, y, TEST)] if points else []


def _sentence(metric: str, clients: Sequence[tuple[float, Document]], tests: Sequence[tuple[float, Document]]) -> str:
    parts = []
    if clients:
        last = clients[-1][1]
        spread = f", from {words.number(last['min'])} to {words.number(last['max'])}" if last["n"] > 1 else ""
        parts.append(f"mean {words.number(last['mean'])} over {words.plural(int(last['n']), 'client')}{spread}")
    if tests:
        parts.append(f"{words.number(tests[-1][1]['mean'])} on the test set")
    return f"Newest model: {metric} {'; '.join(parts)}."
