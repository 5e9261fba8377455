"""`/box`: how one metric spreads over the participants, a box a model, with the mean as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dash import html

from fedmq.metrics import is_scalar
from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.figures import SERIES, figure, line
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import (
    NO_SESSION,
    Changes,
    Page,
    Point,
    choose,
    metric_control,
    session_control,
)
from fedmq_dashboard.query import Query

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Boxes:
    """A session's models, and the validations of the chosen or else the newest one by each participant."""

    sessions: Sequence[Document]
    session: Document | None
    trail: Sequence[Document]
    chosen: Document | None
    validations: Sequence[Document]


def read(history: History, live: Live, query: Query) -> Boxes:
    """Reads what the page shows."""
    session = history.session(query.get("session"))
    trail = history.trail(session) if session else []
    wanted = query.get("model")
    validated = [model for model in trail if model["metrics"]]
    chosen = next((model for model in trail if model["model"] == wanted), validated[-1] if validated else None)
    validations = history.validations(session["session"], chosen["model"]) if session and chosen else []
    return Boxes(history.sessions(), session, trail, chosen, validations)


def _names(boxes: Boxes) -> list[str]:
    return [
        name for name in words.metric_names(model["metrics"] for model in boxes.trail) if not name.startswith("test/")
    ]


def controls(boxes: Boxes, query: Query) -> list[Control]:
    """Returns the page's controls."""
    names = _names(boxes)
    return [session_control(boxes.sessions, boxes.session), metric_control(names, choose(query.get("metric"), names))]


def view(boxes: Boxes, query: Query) -> list[Element]:
    """Returns the page's body."""
    metric = choose(query.get("metric"), _names(boxes))
    if boxes.session is None:
        return [c.card("Metric distribution", c.empty(NO_SESSION))]
    if metric is None:
        return [c.card("Metric distribution", c.empty("No client has validated a model of this session yet."))]
    title = f"Metric distribution over alliance participants: {metric}"
    return [c.card(title, _plot(boxes, metric)), _participants(boxes, metric, query)]


def _plot(boxes: Boxes, metric: str) -> Element:
    models = [model for model in boxes.trail if model["metrics"].get(metric, {}).get("n", 0) >= 2]
    if not models:
        return c.empty("A box needs at least two participants that have validated the same model.")
    summaries = [model["metrics"][metric] for model in models]
    x = [model["round"] for model in models]
    column = {
        name: [summary.get(name, summary["median"]) for summary in summaries]
        for name in ("min", "q1", "median", "q3", "max", "mean")
    }
    box = {
        "type": "box",
        "name": "participants",
        "x": x,
        "lowerfence": column["min"],
        "q1": column["q1"],
        "median": column["median"],
        "q3": column["q3"],
        "upperfence": column["max"],
        "marker": {"color": SERIES[0]},
        "line": {"width": 1.2},
        "fillcolor": "rgba(61,127,208,0.28)",
        "whiskerwidth": 0.5,
    }
    names = [model["model"] for model in models]
    mean = line("Mean", x, column["mean"], SERIES[1], customdata=names, mode="lines+markers", marker={"size": 5})
    mean["hovertemplate"] = "%{customdata}<br>mean %{y}<extra></extra>"
    last = summaries[-1]
    summary = (
        f"Newest model: mean {words.number(last['mean'])} over {words.plural(int(last['n']), 'participant')}, half of them "
        f"between {words.number(last.get('q1', last['median']))} and {words.number(last.get('q3', last['median']))}. "
        "Whiskers reach from least to most. Click a mean to see who is where."
    )
    return c.graph("box", figure([box, mean], x="Model ID (round)", y=metric), summary, 420)


def _participants(boxes: Boxes, metric: str, query: Query) -> Element:
    chosen = boxes.chosen
    if chosen is None:
        return None
    found = [
        (float(row["metrics"][metric]), row)
        for row in boxes.validations
        if row["scope"] == "client" and is_scalar(row["metrics"].get(metric))
    ]
    if not found:
        return c.card(
            f"Participants of {words.short(chosen['model'])}", c.empty(f"Nobody has reported {metric} for this model.")
        )
    found.sort(key=lambda pair: pair[0], reverse=words.less_is_better(metric))
    worst, best = found[:SHOWN], found[SHOWN:][-SHOWN:]
    parts: list[Element] = [html.Div([html.H3("Worst"), _rows(metric, worst)])]
    if best:
        parts.append(html.Div([html.H3("Best"), _rows(metric, list(reversed(best)))]))
    note = f"round {chosen['round']}, {words.plural(len(found), 'participant')}"
    title = f"Participants of {words.short(chosen['model'])}"
    return c.card(title, html.Div(parts, className="beside"), note=note, id="participants")


def _rows(metric: str, found: Sequence[tuple[float, Document]]) -> Element:
    columns = [c.Column("Client"), c.Column(metric, True), c.Column("Examples", True)]
    rows: list[list[Element]] = [
        [
            c.client(row["client"], row["session"]),
            words.number(value),
            "not reported" if row["weight"] is None else words.number(row["weight"]),
        ]
        for value, row in found
    ]
    return c.table(columns, rows, f"{metric} by participant")


def clicked(graph: str, point: Point) -> Changes:
    """Returns how a click on a plot changes the address."""
    return {"model": point["customdata"]} if graph == "box" and point.get("customdata") else {}


PAGE = Page("/box", "Box", "rounds", read, controls, view, clicked)
