"""`/timeline`: where a round's time went, and which clients delay it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.charts import waterfall
from fedmq_dashboard.columns import Columns, columns_of_events, with_late
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import NO_SESSION, Changes, Page, Point, session_control
from fedmq_dashboard.query import Query
from fedmq_dashboard.waiting import TimedRound, delays, paces

MOST_ROWS = 60
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Timeline:
    """The page's data. `rounds`: the aggregated ones. `shown` may be open, as the round `open` is."""

    sessions: Sequence[Document]
    session: Document | None
    rounds: Sequence[TimedRound]
    shown: TimedRound | None
    open: int | None


def read(history: History, live: Live, query: Query) -> Timeline:
    """Reads what the page shows."""
    session = history.session(query.get("session"))
    if session is None:
        return Timeline(history.sessions(), None, (), None, None)
    name, timeout = session["session"], session["policy"]["timeout"]
    committed = {document["round"]: document["committed_at"] for document in history.rounds(name)}
    planned = {(a["round"], a["attempt"]): a["created_at"] for a in history.attempts(name)}

    def timed(columns: Columns) -> TimedRound:
        at = planned[columns.round, columns.attempt]
        return TimedRound(columns, at, at + timeout, committed.get(columns.round))

    columns = with_late(history.participation(name), history.late(name))
    rounds = [timed(each) for each in columns if (each.round, each.attempt) in planned]
    newest = max(planned, default=None)
    is_open = newest is not None and newest[0] not in committed
    wanted = query.number("round", 0) or (newest[0] if newest else 0)
    shown = next((one for one in rounds if one.columns.round == wanted), None)
    if shown is None and newest is not None and wanted == newest[0]:
        shown = timed(columns_of_events(name, *newest, history.events_after(name, planned[newest])))
    return Timeline(history.sessions(), session, rounds, shown, newest[0] if newest and is_open else None)


def controls(found: Timeline, query: Query) -> list[Control]:
    """Returns the page's controls."""
    numbers = [one.columns.round for one in found.rounds]
    if found.open is not None and found.open not in numbers:
        numbers.append(found.open)
    options = {str(number): f"round {number}" for number in reversed(numbers)}
    chosen = str(found.shown.columns.round) if found.shown else None
    return [session_control(found.sessions, found.session), Control("round", "Round", options, chosen)]


def view(found: Timeline, query: Query) -> list[Element]:
    """Returns the page's body."""
    if found.session is None:
        return [c.card("Timeline", c.empty(NO_SESSION))]
    if found.shown is None:
        return [c.card("Timeline", c.empty("No round of this session has been planned yet."))]
    parts = [_round(found.shown)]
    if found.rounds:
        session = found.session["session"]
        parts.append(c.card("Round by round", waterfall.by_round(found.rounds)))
        parts.append(_delays(found.rounds, session))
        parts.append(_paces(found.rounds, session))
    return parts


def _round(one: TimedRound) -> Element:
    columns = one.columns
    title = f"Round {columns.round}" + (f", attempt {columns.attempt}" if columns.attempt > 1 else "")
    if np.all(np.isnan(one.ends())):
        return c.card(title, c.empty("No client has answered yet in this round."))
    rows = waterfall.slowest_rows(one, MOST_ROWS)
    known = words.plural(len(columns.clients), "client")
    note = f"the last {len(rows)} of {known}" if len(rows) < len(columns.clients) else known
    return c.card(title, waterfall.waterfall(one, rows), note=note)


def _delays(rounds: Sequence[TimedRound], session: str) -> Element:
    found = delays(rounds)
    total = sum(delay.seconds for delay in found)
    columns = [c.Column("Client"), c.Column("Waited for it", True), c.Column("Missed deadlines", True)]
    rows: list[list[Element]] = [
        [c.client(delay.client, session), words.seconds(delay.seconds), f"{delay.missed} of {delay.asked}"]
        for delay in found[:MOST_NAMED]
    ]
    note = f"the rounds waited {words.seconds(total)}; each second is shared by those who had not answered"
    table = c.table(columns, rows, "How long the rounds waited for each client", id="delays")
    return c.card("Who the rounds waited for", table, note=note)


def _paces(rounds: Sequence[TimedRound], session: str) -> Element:
    found = paces(rounds)
    if not found:
        return c.card("Slowest at its own work", c.empty("No client has reported how long it worked."))
    columns = [
        c.Column("Client"),
        c.Column("Own work: fetch, validate, train, upload", True),
        c.Column("Beside the others", True),
        c.Column("Queues and network", True),
    ]
    rows: list[list[Element]] = [
        [c.client(pace.client, session), words.seconds(pace.own), f"{pace.ratio:.1f} times", words.seconds(pace.queued)]
        for pace in found[:MOST_NAMED]
    ]
    table = c.table(columns, rows, "The clients with the longest work of their own, medians", id="paces")
    return c.card("Slowest at its own work", table, note="medians over all rounds")


def clicked(graph: str, point: Point) -> Changes:
    """Returns how a click on a plot changes the address."""
    if graph == "rounds":
        return {"round": point["x"]}
    return {}


PAGE = Page("/timeline", "Timeline", "rounds", read, controls, view, clicked)
