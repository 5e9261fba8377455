"""Small pieces that all pages are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from fedmq_dashboard.query import Query

Element = Component | str | int | float | None
Children = Element | Sequence[Element]


@dataclass(frozen=True, slots=True)
class Control:
    """A choice that a page offers. `options`: value → label. With `multi` the value is a list with commas."""

    name: str
    label: str
    options: dict[str, str]
    value: str | None
    multi: bool = False
    placeholder: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. `sort`: the address that sorts by it; `order`: how it is sorted now."""

    title: str
    numeric: bool = False
    sort: str | None = None
    order: str | None = None


def card(title: str, *children: Children, note: Element = None, wide: bool = True, id: str | None = None) -> Component:
    """A section with a heading."""
    head = html.Header([html.H2(title), html.Div(note, className="note")], className="card-head")
    extra: dict[str, Any] = {"id": id} if id else {}
    return html.Section([head, *_flat(children)], className="card wide" if wide else "card", **extra)


def aria(**attributes: str) -> dict[str, Any]:
    """`label="x"` as the property `aria-label`."""
    return {f"aria-{name}": value for name, value in attributes.items()}


def empty(sentence: str) -> Component:
    """What stands where there is nothing to show: always says why."""
    return html.P(sentence, className="empty")


def badge(text: str, kind: str | None = None) -> Component:
    """A word with the colour of its kind: an outcome or a state."""
    return html.Span(text, className=f"badge is-{kind or text}")


def fact(label: str, value: Children, hint: str = "") -> Component:
    """Returns a value with its label and a hint below."""
    return html.Div([html.Dt(label), html.Dd(value), html.Small(hint) if hint else None], className="fact")


def facts(*items: Component) -> Component:
    """Returns a list of facts."""
    return html.Dl(list(items), className="facts")


def moment(at: float | None, form: str = "time") -> Component:
    """A point in time, shown in the viewer's own time zone. `form`: time, date or ago."""
    if at is None:
        return html.Span("–")
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    data: dict[str, Any] = {"data-form": form}
    return html.Time(f"{iso[11:19]} UTC", dateTime=iso, title=iso, **data)


def link(text: Children, href: str, **properties: Any) -> Component:
    """Returns a link within the dashboard."""
    return dcc.Link(text, href=href, **properties)


def client(name: str, session: str | None) -> Component:
    """Returns a link to a client's part in a session."""
    return link(name, f"/clients{Query().search(session=session, client=name)}")


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[Children]], caption: str, id: str | None = None
) -> Component:
    """A table that scrolls sideways in its own box where it is too wide. `caption` is for those who can't see."""
    head = html.Tr([_head(column) for column in columns])
    body = [
        html.Tr(
            [
                html.Td(cell, className="number" if column.numeric else "")
                for column, cell in zip(columns, row, strict=True)
            ]
        )
        for row in rows
    ]
    extra: dict[str, Any] = {"id": id} if id else {}
    caption_element = html.Caption(caption, className="visually-hidden")
    content = html.Table([caption_element, html.Thead(head), html.Tbody(body)], **extra)
    return html.Div(content, className="scroll", tabIndex=0, role="region", **aria(label=caption))


def _head(column: Column) -> Component:
    sorted_as = {"ascending": " ▲", "descending": " ▼"}.get(column.order or "", "")
    content: Children = column.title + sorted_as
    if column.sort is not None:
        content = link(content, column.sort)
    extra = aria(sort=column.order) if column.order else {}
    return html.Th(content, scope="col", className="number" if column.numeric else "", **extra)


def graph(
    name: str, figure: dict[str, Any], summary: str, height: int = 320, legend: Component | None = None
) -> Component:
    """Returns a plot with a legend and a summary. A click on it is passed with `name` to the page's `clicked`."""
    figure["layout"] |= {"height": height, "showlegend": False}
    plot = dcc.Graph(
        id={"graph": name},
        figure=figure,
        responsive=True,
        config={"displaylogo": False, "displayModeBar": False, "scrollZoom": False},
        style={"height": f"{height}px"},
    )
    picture = html.Div(plot, role="img", className="plot", **aria(label=summary))
    return html.Figure([legend or _legend(figure["data"]), picture, html.Figcaption(summary)])


def legend(items: Sequence[tuple[str, str]]) -> Component:
    """Words and the colours that stand for them."""
    return html.Ul(
        [html.Li(word, className="spot", style={"--kind": colour}) for word, colour in items], className="legend"
    )


def _legend(traces: Sequence[dict[str, Any]]) -> Component | None:
    named = [trace for trace in traces if trace.get("name") and trace.get("showlegend", True)]
    if len(named) < 2:
        return None
    items = []
    for trace in named:
        kind = "line" if "lines" in trace.get("mode", "") and "fill" not in trace else "spot"
        dash = " dashed" if trace.get("line", {}).get("dash") else ""
        items.append(html.Li(trace["name"], className=f"{kind}{dash}", style={"--kind": _colour(trace)}))
    return html.Ul(items, className="legend")


def _colour(trace: dict[str, Any]) -> str:
    found = trace.get("fillcolor") or trace.get("line", {}).get("color") or trace.get("marker", {}).get("color")
    return str(found or "currentColor")


def command(text: str) -> Component:
    """A command to type, with a button that copies it."""
    return html.Div([html.Code(text), dcc.Clipboard(content=text, title="copy", className="copy")], className="command")


def _flat(children: Iterable[Children]) -> list[Element]:
    flat: list[Element] = []
    for child in children:
        if isinstance(child, Sequence) and not isinstance(child, str):
            flat.extend(child)
        else:
            flat.append(child)
    return flat
