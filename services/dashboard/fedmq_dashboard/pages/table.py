"""`/table`: mean metrics, one row a model of a session, newest first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dash import html

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import Page, session_label
from fedmq_dashboard.query import Query

ROWS = 100
EVERY = "every"


@dataclass(frozen=True, slots=True)
class Means:
    """Models with the metrics of each session, newest first, and the names of all their metrics."""

    sessions: Sequence[Document]
    models: Sequence[Document]
    metrics: Sequence[str]


def read(history: History, live: Live, query: Query) -> Means:
    """Reads what the page shows and exports."""
    wanted = query.get("session")
    if wanted in (None, EVERY):
        models = history.findings()
    else:
        session = history.session(wanted)
        models = list(reversed(history.trail(session))) if session else []
    return Means(history.sessions(), models, words.metric_names(model["metrics"] for model in models))


def columns(means: Means, query: Query) -> list[str]:
    """Returns the chosen metrics, or all of them."""
    chosen = [name for name in query.names("columns") if name in means.metrics]
    return chosen or list(means.metrics)


def rows(means: Means, query: Query) -> list[dict[str, str | int | float | None]]:
    """Returns plain rows in the chosen order. What is not known is None, and last in either order."""
    names = columns(means, query)
    found: list[dict[str, str | int | float | None]] = [
        {
            "model": model["model"],
            "session": model["session"],
            "round": model["round"],
            **{name: _mean(model, name) for name in names},
        }
        for model in means.models
    ]
    sort = query.get("sort")
    if sort in names:
        descending = query.get("order") != "ascending"
        known = [row for row in found if row[sort] is not None]
        known.sort(key=lambda row: float(row[sort] or 0), reverse=descending)
        return known + [row for row in found if row[sort] is None]
    return found


def _mean(model: Document, name: str) -> float | None:
    value = model["metrics"].get(name, {}).get("mean")
    return value if value is not None and math.isfinite(value) else None


def controls(means: Means, query: Query) -> list[Control]:
    """Returns the page's controls."""
    sessions = {EVERY: "every session"} | {session["session"]: session_label(session) for session in means.sessions}
    chosen = ",".join(columns(means, query)) if query.get("columns") else None
    return [
        Control("session", "Session", sessions, query.get("session") or EVERY),
        Control("columns", "Columns", {name: name for name in means.metrics}, chosen, multi=True, placeholder="all"),
    ]


def view(means: Means, query: Query) -> list[Element]:
    """Returns the page's body."""
    if not means.models:
        return [
            c.card("Summary: mean metrics", c.empty("No model is recorded yet: the first one is a session's seed."))
        ]
    if not means.metrics:
        return [
            c.card("Summary: mean metrics", c.empty("No scalar metrics found: no client has validated a model yet."))
        ]
    names = columns(means, query)
    found = rows(means, query)
    page = min(query.number("page", 1), max(1, math.ceil(len(found) / ROWS)))
    shown = found[(page - 1) * ROWS : page * ROWS]
    head = [c.Column("Model ID"), c.Column("Session"), c.Column("Round", True), *(_head(n, query) for n in names)]
    body = [
        [
            _model(str(row["model"])),
            _session(row["session"]),
            row["round"],
            *(words.number(row[name]) for name in names),
        ]
        for row in shown
    ]
    return [
        c.card(
            "Summary: mean metrics",
            c.table(head, body, "Mean metrics, one row a model", id="means"),
            _pager(query, page, len(found)),
            note=_exports(query),
        )
    ]


def _model(name: str) -> Element:
    return c.link(words.short(name, 36), f"/models?model={name}", title=name)


def _session(name: str | int | float | None) -> Element:
    return "–" if name is None else c.link(words.short(str(name), 22), f"/?session={name}", title=str(name))


def _head(name: str, query: Query) -> c.Column:
    is_sorted = query.get("sort") == name
    order = (query.get("order") or "descending") if is_sorted else None
    opposite = "ascending" if order == "descending" else "descending"
    return c.Column(name, True, f"/table{query.search(sort=name, order=opposite, page=None)}", order)


def _pager(query: Query, page: int, total: int) -> Element:
    if total <= ROWS:
        return html.P(words.plural(total, "model"), className="note")
    newer = c.link("← before", f"/table{query.search(page=page - 1)}") if page > 1 else None
    older = c.link("after →", f"/table{query.search(page=page + 1)}") if page * ROWS < total else None
    first = (page - 1) * ROWS + 1
    return html.Nav(
        [newer, f" {first:,} to {min(total, page * ROWS):,} of {words.plural(total, 'model')} ", older],
        className="note",
    )


def _exports(query: Query) -> Element:
    search = query.search(page=None)
    return html.Span(
        [
            html.A("CSV", href=f"/export/table.csv{search}", download="metrics.csv", className="button"),
            html.A("JSON", href=f"/export/table.json{search}", download="metrics.json", className="button"),
        ]
    )


PAGE = Page("/table", "Table", "rounds", read, controls, view)
