"""Pages without a browser: read, turned into components, and taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dash.development.base_component import Component

from fedmq.records.base import Records
from fedmq_dashboard.app import page_of
from fedmq_dashboard.components import Control
from fedmq_dashboard.feed import Document
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.query import Query


@dataclass(frozen=True, slots=True)
class Shown:
    """A page's controls by name, and everything in its body."""

    controls: dict[str, Control]
    body: list[Any]

    def elements(self) -> Iterator[Component]:
        yield from _walk(self.body)

    @property
    def text(self) -> str:
        return " ".join(_texts(self.body))

    @property
    def graphs(self) -> dict[str, dict[str, Any]]:
        """Figures by the name of their graph."""
        graphs: list[Any] = [element for element in self.elements() if type(element).__name__ == "Graph"]
        return {graph.id["graph"]: graph.figure for graph in graphs}

    @property
    def links(self) -> list[str]:
        found = (getattr(element, "href", None) for element in self.elements())
        return [str(link) for link in found if link]

    def rows(self, table_id: str) -> list[list[str]]:
        """The cells of a table's body."""
        table = next(e for e in self.elements() if getattr(e, "id", None) == table_id)
        body = next(e for e in _walk([table]) if type(e).__name__ == "Tbody")
        return [[" ".join(_texts([cell])) for cell in row.children] for row in body.children]


def show(records: Records, path: str, search: str = "", events: Sequence[Document] = ()) -> Shown:
    """The page as it would be sent; fails if it can't be."""
    page = page_of(path)
    assert page is not None
    live, query = Live(), Query.parse(search)
    live.apply(events)
    data = page.read(History(records), live, query)
    shown = Shown({each.name: each for each in page.controls(data, query)}, list(page.view(data, query)))
    json.dumps(shown.body, default=lambda component: component.to_plotly_json(), allow_nan=False)
    return shown


def _walk(node: Any) -> Iterator[Component]:
    if isinstance(node, list | tuple):
        for child in node:
            yield from _walk(child)
    elif isinstance(node, Component):
        yield node
        yield from _walk(getattr(node, "children", None))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, list | tuple):
        for child in node:
            yield from _texts(child)
    elif isinstance(node, Component):
        yield from _texts(getattr(node, "children", None))
    elif node is not None:
        yield str(node)
