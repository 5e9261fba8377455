"""`/clients`: who takes part, whose updates are odd, and what went wrong where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dash import html

from fedmq.metrics import is_scalar
from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.charts import participation
from fedmq_dashboard.columns import with_late
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.figures import outcome_word
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.matrix import Matrix, Trouble, last_troubles, matrix_of
from fedmq_dashboard.pages.one_client import OneClient, one_client, read_one
from fedmq_dashboard.pages.page import NO_SESSION, Changes, Page, Point, choose, metric_control, session_control
from fedmq_dashboard.query import Query

ROWS = 50
WORST = 10
ORDERS = {"troubles": "troubles first", "norm": "largest norm first", "name": "name"}
SKEW_SHOWN = 1.0


@dataclass(frozen=True, slots=True)
class ClientsPage:
    """The page's data. `troubles` has each client's newest one in this session."""

    sessions: Sequence[Document]
    session: Document | None
    clients: Sequence[Document]
    matrix: Matrix
    troubles: Mapping[str, Trouble]
    newest: Document | None
    validations: Sequence[Document]
    metrics: Sequence[str]
    one: OneClient | None


def read(history: History, live: Live, query: Query) -> ClientsPage:
    """Reads what the page shows."""
    session = history.session(query.get("session"))
    name = session["session"] if session else None
    columns = with_late(history.participation(name), history.late(name)) if name else []
    matrix = matrix_of(columns)
    trail = history.trail(session) if session else []
    newest = next((model for model in reversed(trail) if model["metrics"]), None)
    validations = history.validations(session["session"], newest["model"]) if session and newest else []
    troubles = last_troubles(columns)
    metrics = [m for m in words.metric_names([newest["metrics"]] if newest else []) if not m.startswith("test/")]
    one = read_one(history, query, session, matrix)
    return ClientsPage(
        history.sessions(), session, history.clients(), matrix, troubles, newest, validations, metrics, one
    )


def controls(found: ClientsPage, query: Query) -> list[Control]:
    """Returns the page's controls."""
    names = {client["client"]: client["client"] for client in found.clients}
    return [
        session_control(found.sessions, found.session),
        Control("client", "Client", names, query.get("client"), placeholder="all"),
        Control("order", "Order", dict(ORDERS), choose(query.get("order"), list(ORDERS))),
        metric_control(found.metrics, choose(query.get("metric"), found.metrics), "Worst by"),
    ]


def view(found: ClientsPage, query: Query) -> list[Element]:
    """Returns the page's body."""
    if not found.clients:
        return [c.card("Clients", c.empty("No client has come yet. Start one: fedmq run client --package DIR"))]
    parts: list[Element] = []
    if found.one is not None:
        parts.append(one_client(found.one, query))
    order = choose(query.get("order"), list(ORDERS)) or "troubles"
    rows = found.matrix.order(order)
    if found.session is None:
        parts.append(c.card("Participation", c.empty(NO_SESSION)))
    elif not found.matrix.clients:
        parts.append(
            c.card("Participation", c.empty("No round is committed yet: the matrix begins with the first one."))
        )
    else:
        page, pages = _page(query, len(rows))
        part = slice(None) if query.get("rows") == "all" else slice((page - 1) * ROWS, page * ROWS)
        by_norm = rows if order == "name" else found.matrix.order("norm")
        note = _pager(query, page, pages, len(rows))
        parts += [
            c.card("Participation", participation.outcomes(found.matrix, rows[part]), note=note),
            c.card("Norm of each client's update", participation.norms(found.matrix, by_norm[part]), note=note),
            c.card("Share of weight", participation.shares(found.matrix), wide=False),
        ]
    parts += [_worst(found, choose(query.get("metric"), found.metrics)), _everybody(found, query, order)]
    return parts


def clicked(graph: str, point: Point) -> Changes:
    """Returns how a click on a plot changes the address."""
    if graph in ("matrix", "norms") and isinstance(point.get("y"), str):
        return {"client": point["y"], "round": point["x"]}
    return {"client": point["y"]} if graph == "shares" else {}


def _page(query: Query, rows: int) -> tuple[int, int]:
    pages = max(1, math.ceil(rows / ROWS))
    return min(max(1, query.number("page", 1)), pages), pages


def _pager(query: Query, page: int, pages: int, rows: int) -> Element:
    if pages == 1:
        return words.plural(rows, "client")
    if query.get("rows") == "all":
        return c.link(f"show {ROWS} at a time", f"/clients{query.search(rows=None)}")
    before = c.link("← before", f"/clients{query.search(page=page - 1)}") if page > 1 else None
    after = c.link("after →", f"/clients{query.search(page=page + 1)}") if page < pages else None
    everything = c.link("all", f"/clients{query.search(rows='all', page=None)}")
    return html.Span([before, f" {page} of {pages} ", after, " · ", everything])


def _worst(found: ClientsPage, metric: str | None) -> Element:
    if metric is None or found.newest is None:
        return c.card("Worst clients", c.empty("No client has validated a model yet."), wide=False)
    scored = [
        (float(row["metrics"][metric]), row["client"])
        for row in found.validations
        if row["scope"] == "client" and is_scalar(row["metrics"].get(metric))
    ]
    scored.sort(reverse=words.less_is_better(metric))
    session = found.session["session"] if found.session else None
    rows: list[list[Element]] = [[c.client(client, session), words.number(value)] for value, client in scored[:WORST]]
    table = c.table([c.Column("Client"), c.Column(metric, True)], rows, f"Clients with the worst {metric}")
    return c.card(f"Worst clients by {metric}", table, note=words.short(found.newest["model"]), wide=False)


def _everybody(found: ClientsPage, query: Query, order: str) -> Element:
    row = {name: index for index, name in enumerate(found.matrix.clients)}
    asked, troubles = found.matrix.asked(), found.matrix.troubles()
    rank = {found.matrix.clients[index]: place for place, index in enumerate(found.matrix.order(order))}
    everybody = sorted(found.clients, key=lambda client: (rank.get(client["client"], len(rank)), client["client"]))
    page, pages = _page(query, len(everybody))
    columns = [
        c.Column("Client"),
        c.Column("State"),
        c.Column("Combiner"),
        c.Column("Labels"),
        c.Column("Accepted", True),
        c.Column("Usual time", True),
        c.Column("Version"),
        c.Column("Package"),
        c.Column("Clock"),
        c.Column("Last trouble"),
    ]
    body = []
    session = found.session["session"] if found.session else None
    for client in everybody[(page - 1) * ROWS : page * ROWS]:
        at = row.get(client["client"])
        body.append(
            [
                c.client(client["client"], session),
                c.badge("here" if client["state"] == "present" else "away"),
                client["combiner"],
                ", ".join(f"{name} {value}" for name, value in client["labels"].items()),
                "–" if at is None else f"{asked[at] - troubles[at]} of {asked[at]}",
                "–" if at is None else words.seconds(float(found.matrix.busy[at])),
                client["software"] or "–",
                html.Code(client["package"][:8], title=client["package"]) if client["package"] else "–",
                "–" if at is None else clock(float(found.matrix.transit[at])),
                _trouble(client["client"], found.troubles.get(client["client"]), query),
            ]
        )
    return c.card(
        "All clients",
        c.table(columns, body, "All clients", id="everybody"),
        note=_pager(query, page, pages, len(everybody)),
    )


def _trouble(client: str, trouble: Trouble | None, query: Query) -> Element:
    if trouble is None:
        return "–"
    reason = trouble.reason or outcome_word(trouble.outcome)
    search = query.search(client=client, round=trouble.round)
    return c.link(words.short(reason, 60), f"/clients{search}", title=reason)


def clock(transit: float) -> str:
    """Returns a remark on a client's clock: messages that seem to arrive before they are sent show that it is ahead."""
    if not math.isfinite(transit):
        return "–"
    if abs(transit) < SKEW_SHOWN:
        return "in step"
    return f"{words.seconds(abs(transit))} {'behind, at most' if transit > 0 else 'ahead, at least'}"


PAGE = Page("/clients", "Clients", "rounds", read, controls, view, clicked)
