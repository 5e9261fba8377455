"""The protocol of a page, and controls that several pages have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from fedmq.records.base import Document
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.query import Query
from fedmq_dashboard.words import short

D = TypeVar("D")

Point = Mapping[str, Any]
Changes = dict[str, str | int | None]
Topic = Literal["any", "rounds", "clock"]


def _nothing(graph: str, point: Point) -> Changes:
    return {}


@dataclass(frozen=True, slots=True)
class Page(Generic[D]):
    """A page. `read` reads what it shows; `controls` and `view`, which are pure, make components of that.

    News of the `topic` refresh the page. `clicked(graph, point)` returns how a click on a plot changes the address.
    """

    path: str
    title: str
    topic: Topic
    read: Callable[[History, Live, Query], D]
    controls: Callable[[D, Query], list[Control]]
    view: Callable[[D, Query], list[Element]]
    clicked: Callable[[str, Point], Changes] = _nothing


NO_SESSION = "There is no session yet. Start one: fedmq start, or the form on the reducer's page."


def session_label(session: Document) -> str:
    """Returns a session's name and state."""
    name = session["name"] or short(session["session"])
    return f"{name} · {session['state']}"


def session_control(sessions: Sequence[Document], chosen: Document | None) -> Control:
    """Returns the control that chooses a session."""
    options = {session["session"]: session_label(session) for session in sessions}
    return Control("session", "Session", options, chosen["session"] if chosen else None)


def metric_control(names: Sequence[str], chosen: str | None, label: str = "Metric") -> Control:
    """Returns the control that chooses a metric."""
    return Control("metric", label, {name: name for name in names}, chosen)


def choose(wanted: str | None, names: Sequence[str]) -> str | None:
    """Returns the wanted name if it is one of `names`, else the first of them."""
    return wanted if wanted in names else next(iter(names), None)
