"""The dashboard's application: the address chooses a page, controls change the address, and news refresh the page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import dash
from dash import ALL, Input, Output, State, dcc, html
from dash.development.base_component import Component

from fedmq.errors import FedMQError
from fedmq.web.access import Access
from fedmq_dashboard import components as c
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages import box, clients, live, models, sessions, system, table, timeline
from fedmq_dashboard.pages.page import Page
from fedmq_dashboard.query import Query
from fedmq_dashboard.routes import add_guard, add_routes

PAGES: tuple[Page[Any], ...] = (
    live.PAGE,
    table.PAGE,
    box.PAGE,
    clients.PAGE,
    timeline.PAGE,
    models.PAGE,
    sessions.PAGE,
    system.PAGE,
)
CARRIED = ("session",)
"""Values that links to other pages keep."""


def create_app(history: History, live: Live, alliance: str = "", access: Access | None = None) -> dash.Dash:
    """Returns the application, which is not served yet. `access`: who may look, by default this machine."""
    app = dash.Dash(
        __name__,
        title="FedMQ",
        update_title="",
        assets_folder="assets",
        suppress_callback_exceptions=True,
        index_string=_INDEX,
        add_log_handler=False,
    )
    app.layout = _frame(alliance)
    _add_callbacks(app, history, live)
    add_routes(app.server, history, live)
    add_guard(app.server, access or Access(), [_THEME, app.renderer])
    return app


def _frame(alliance: str) -> Component:
    return html.Div(
        [
            html.A("Skip to the content", href="#body", className="skip"),
            html.Header(
                [
                    dcc.Link(["FedMQ", html.Small(alliance)], href="/", className="brand"),
                    html.Nav(id="nav", **c.aria(label="Pages")),
                    html.Button("◐", id="theme", title="light or dark", type="button", **c.aria(label="Light or dark")),
                ],
                className="top",
            ),
            html.Div(id="trouble", role="status"),
            html.Div(id="controls", className="controls"),
            html.Main(id="body", tabIndex=-1),
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="tick", data={}),
            dcc.Store(id="shown", data={}),
        ],
        className="frame",
    )


def page_of(pathname: str | None) -> Page[Any] | None:
    """Returns the page at a path."""
    path = "/" + (pathname or "/").strip("/")
    return next((page for page in PAGES if page.path == path), None)


# -- callbacks ------------------------------------------------------------------------------------------------------


def _add_callbacks(app: dash.Dash, history: History, live: Live) -> None:
    @app.callback(
        Output("nav", "children"),
        Output("controls", "children"),
        Output("body", "children"),
        Output("trouble", "children"),
        Output("shown", "data"),
        Input("url", "pathname"),
        Input("url", "search"),
        Input("tick", "data"),
        State("shown", "data"),
    )
    def show(pathname: str, search: str, tick: dict[str, int], shown: dict[str, Any]) -> tuple[Any, ...]:
        page = page_of(pathname)
        address = f"{pathname}{search or ''}"
        news = tick.get(page.topic) if page is not None else None
        if shown.get("address") == address and shown.get("news") == news:
            raise dash.exceptions.PreventUpdate
        query = Query.parse(search)
        wanted, body = _content(page, history, live, query)
        controls = [control(each) for each in wanted]
        parts = {"nav": nav(page, query), "controls": controls, "body": body, "trouble": live.trouble}
        marks = {name: _mark(part) for name, part in parts.items()}
        old = shown.get("marks", {}) if shown.get("address") == address else {}
        changed = [dash.no_update if old.get(name) == marks[name] else part for name, part in parts.items()]
        values = {each.name: each.value or "" for each in wanted}
        return (*changed, {"address": address, "news": news, "marks": marks, "values": values})

    @app.callback(
        Output("url", "search"),
        Input({"control": ALL}, "value"),
        State({"control": ALL}, "id"),
        State("url", "search"),
        State("shown", "data"),
        prevent_initial_call=True,
    )
    def choose(values: Sequence[Any], ids: Sequence[dict[str, str]], search: str, shown: dict[str, Any]) -> Any:
        """Changes the address. Controls report their values when they appear too, so only a changed value is a choice."""
        reported = {each["control"]: _text(value) for each, value in zip(ids, values, strict=True)}
        chosen = {name: value for name, value in reported.items() if value != shown.get("values", {}).get(name, value)}
        return _moved(search, {**chosen, "page": None}) if chosen else dash.no_update

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input({"graph": ALL}, "clickData"),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def click(_: Sequence[Any], pathname: str, search: str) -> Any:
        page, given = page_of(pathname), dash.callback_context.triggered
        if page is None or not given or not given[0]["value"]:
            return dash.no_update
        graph = dash.callback_context.triggered_id
        return _moved(search, page.clicked(graph["graph"], given[0]["value"]["points"][0]))


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else value or ""


def _moved(search: str | None, changes: Mapping[str, str | int | None]) -> Any:
    """Returns the new address, or no update if it is the same, so that the browser keeps its content."""
    changed = Query.parse(search).search(**changes)
    return dash.no_update if changed == Query.parse(search).search() else changed


def _content(page: Page[Any] | None, history: History, live: Live, query: Query) -> tuple[list[Control], list[Element]]:
    """Returns controls and body. If the records can't be read, the body says so; the next news try again."""
    if page is None:
        return [], [c.card("Not found", c.empty("There is no such page here."))]
    try:
        data = page.read(history, live, query)
    except FedMQError as error:
        return [], [c.card(page.title, c.empty(f"The records can't be read now: {error.reason}"))]
    return page.controls(data, query), page.view(data, query)


def nav(page: Page[Any] | None, query: Query) -> list[Element]:
    """Returns links to all pages."""
    carried = Query({name: query.values[name] for name in CARRIED if name in query.values}).search()
    return [
        dcc.Link(
            [each.title, html.Span(", this page", className="visually-hidden") if each is page else ""],
            href=each.path + carried,
            className="here" if each is page else "",
        )
        for each in PAGES
    ]


def control(wanted: Control) -> Component:
    """Returns the component of a control."""
    value: Any = wanted.value
    if wanted.multi:
        value = wanted.value.split(",") if wanted.value else []
    options = [{"label": label, "value": value} for value, label in wanted.options.items()]
    dropdown = dcc.Dropdown(
        id={"control": wanted.name},
        options=options,
        value=value,
        multi=wanted.multi,
        clearable=wanted.multi or bool(wanted.placeholder),
        searchable=len(options) > 10,
        placeholder=wanted.placeholder or "none",
        disabled=not options,
        debounce=wanted.multi,
        maxHeight=320,
    )
    return html.Div([html.Label(wanted.label, id=f"label-{wanted.name}"), dropdown], className="control")


def _mark(part: Any) -> str:
    text = json.dumps(part, default=lambda component: component.to_plotly_json())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_THEME = """document.documentElement.dataset.theme = localStorage.getItem("theme") || "auto\""""
"""Is inline, so that the page is never shown in the other theme."""

_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
<script>{_THEME}</script>
<link rel="icon" href="assets/icon.svg">
{%css%}
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>""".replace("{_THEME}", _THEME)
