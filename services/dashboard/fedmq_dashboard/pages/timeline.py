"""`/timeline`: where a round's time went, and which clients delay it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.charts import waterfall
from fedmq_dashboard.columns import Columns, columns_of_events
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import NO_SESSION, Changes, Page, Point, session_control
from fedmq_dashboard.query import Query

MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class Timeline:
    """The page's data. `rounds`: the aggregated ones with the time of their last plan. `shown` may be open."""

    sessions: Sequence[Document]
    session: Document | None
    rounds: Sequence[tuple[Columns, float]]
    shown: tuple[Columns, float] | None
    committed: Mapping[int, float]
    open: int | None


def read(history: History, live: Live, query: Query) -> Timeline:
    """Reads what the page shows."""
    session = history.session(query.get("session"))
    if session is None:
        return Timeline(history.sessions(), None, (), None, {}, None)
    name = session["session"]
    committed = {document["round"]: document for document in history.rounds(name)}
    planned = {(a["round"], a["attempt"]): a["created_at"] for a in history.attempts(name)}
    rounds = [
        (columns, planned[columns.round, columns.attempt])
        for columns in history.participation(name)
        if (columns.round, columns.attempt) in planned
    ]
    newest = max(planned, default=None)
    is_open = newest is not None and newest[0] not in committed
    wanted = query.number("round", 0) or (newest[0] if newest else 0)
    shown = next((pair for pair in rounds if pair[0].round == wanted), None)
    if shown is None and newest is not None and wanted == newest[0]:
        events = history.events_after(name, planned[newest])
        shown = columns_of_events(name, newest[0], newest[1], events), planned[newest]
    times = {number: document["committed_at"] for number, document in committed.items()}
    return Timeline(history.sessions(), session, rounds, shown, times, newest[0] if newest and is_open else None)


def controls(found: Timeline, query: Query) -> list[Control]:
    """Returns the page's controls."""
    numbers = [columns.round for columns, _ in found.rounds]
    if found.open is not None and found.open not in numbers:
        numbers.append(found.open)
    options = {str(number): f"round {number}" for number in reversed(numbers)}
    chosen = str(found.shown[0].round) if found.shown else None
    return [session_control(found.sessions, found.session), Control("round", "Round", options, chosen)]


def view(found: Timeline, query: Query) -> list[Element]:
    """Returns the page's body."""
    if found.session is None:
        return [c.card("Timeline", c.empty(NO_SESSION))]
    if found.shown is None:
        return [c.card("Timeline", c.empty("No round of this session has been planned yet."))]
    parts = [_round(found, *found.shown)]
    if found.rounds:
        parts.append(c.card("Round by round", waterfall.by_round(found.rounds)))
        parts.append(_stragglers(found))
    return parts


def _round(found: Timeline, columns: Columns, planned_at: float) -> Element:
    rows = waterfall.slowest_rows(columns, MOST_ROWS)
    title = f"Round {columns.round}" + (f", attempt {columns.attempt}" if columns.attempt > 1 else "")
    if not len(rows):
        return c.card(title, c.empty("No client has answered yet in this round."))
    most = len(columns.clients)
    note = (
        f"the last {len(rows)} of {words.plural(most, 'client')}" if most > len(rows) else words.plural(most, "client")
    )
    return c.card(title, waterfall.waterfall(columns, planned_at, found.committed.get(columns.round), rows), note=note)


def _stragglers(found: Timeline) -> Element:
    slow = waterfall.stragglers(found.rounds)
    if not slow:
        return c.card("Slowest as a rule", c.empty("Nobody has answered in any round yet."))
    columns = [
        c.Column("Client"),
        c.Column("Usual time from plan to outcome", True),
        c.Column("Beside the others", True),
    ]
    rows: list[list[Element]] = [
        [c.link(name, f"/clients?client={name}"), words.seconds(usual), f"{ratio:.1f} times"]
        for name, usual, ratio in slow
    ]
    return c.card("Slowest as a rule", c.table(columns, rows, "The slowest clients"))


def clicked(graph: str, point: Point) -> Changes:
    """Returns how a click on a plot changes the address."""
    if graph == "rounds":
        return {"round": point["x"]}
    return {}


PAGE = Page("/timeline", "Timeline", "rounds", read, controls, view, clicked)
