"""`/system`: queues, dead letters, faults and stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dash import html

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import Page
from fedmq_dashboard.query import Query

MOST_LETTERS = 50
MOST_FAULTS = 20
MOST_MAILBOXES = 20


@dataclass(frozen=True, slots=True)
class System:
    """`queues` and `stores` are None until a reducer has recorded them."""

    queues: Document | None
    stores: Document | None
    combiners: Sequence[Document]
    letters: Sequence[Document]
    faults: Sequence[Document]
    active: Document | None
    trouble: str


def read(history: History, live: Live, query: Query) -> System:
    """Reads what the page shows."""
    system = {document["what"]: document for document in history.system()}
    return System(
        queues=system.get("queues"),
        stores=system.get("stores"),
        combiners=history.combiners(),
        letters=history.events({"name": "message.refused"}, MOST_LETTERS),
        faults=history.events({"name": "actor.error"}, MOST_FAULTS),
        active=next(iter(history.events({"name": "reducer.active"}, 1)), None),
        trouble=live.trouble,
    )


def controls(system: System, query: Query) -> list[Control]:
    """Returns the page's controls."""
    return []


def view(system: System, query: Query) -> list[Element]:
    """Returns the page's body."""
    return [
        c.card("Queues", _queues(system.queues), note=_seen(system.queues)),
        c.card("Dead letters and refused messages", _letters(system.letters), id="letters"),
        c.card("Coordination", _coordination(system)),
        c.card("Stores", _stores(system.stores), note=_seen(system.stores)),
        c.card("Faults", _faults(system.faults)),
    ]


def _seen(document: Document | None) -> Element:
    return None if document is None else html.Span(["seen at ", c.moment(document["at"])])


def _queues(found: Document | None) -> Element:
    if found is None:
        return c.empty(
            "No reducer has recorded its queues yet. They come with the first look, a few seconds after its start."
        )
    if found["reason"]:
        return c.empty(f"The broker's queues could not be seen: {found['reason']}")
    busy = sorted(found["queues"], key=lambda queue: (-(queue["ready"] + (queue["unacked"] or 0)), queue["name"]))
    own = [queue for queue in busy if ".client." not in queue["name"]]
    mailboxes = [queue for queue in busy if ".client." in queue["name"]]
    columns = [
        c.Column("Queue"),
        c.Column("Waiting", True),
        c.Column("Unacknowledged", True),
        c.Column("Consumers", True),
    ]
    rows = [_queue(queue) for queue in own]
    shown = [
        queue for queue in mailboxes[:MOST_MAILBOXES] if queue["ready"] or queue["unacked"] or not queue["consumers"]
    ]
    rows += [_queue(queue) for queue in shown]
    rest = len(mailboxes) - len(shown)
    quiet = f"The other {rest:,} mailboxes of clients are read, and nothing waits there."
    note = html.P(quiet, className="note") if rest else None
    return html.Div([c.table(columns, rows, "Queues, the fullest first", id="queues"), note])


def _queue(queue: Document) -> list[Element]:
    unacked = "–" if queue["unacked"] is None else words.number(queue["unacked"])
    return [queue["name"], words.number(queue["ready"]), unacked, words.number(queue["consumers"])]


def _letters(letters: Sequence[Document]) -> Element:
    if not letters:
        return c.empty("None: every message could be read and was where it belongs.")
    columns = [c.Column("Time"), c.Column("Refused by"), c.Column("Queue"), c.Column("Routing key"), c.Column("Why")]
    rows = [
        [
            c.moment(e["at"], "date"),
            e["sender"],
            e["data"].get("inbox", ""),
            e["data"].get("key", ""),
            e["data"].get("reason", ""),
        ]
        for e in letters
    ]
    return c.table(columns, rows, "Dead letters, newest first")


def _coordination(system: System) -> Element:
    active = system.active
    described = c.facts(
        c.fact("Active reducer since", c.moment(active["at"], "date") if active else "no reducer has been active yet"),
        c.fact("Epoch", active["data"].get("epoch", "–") if active else "–", "grows with every take-over"),
        c.fact("This page's news", system.trouble or "arrive"),
    )
    if not system.combiners:
        return html.Div([described, c.empty("No combiner has come yet.")])
    columns = [c.Column("Combiner"), c.Column("State"), c.Column("Clients", True), c.Column("Last seen")]
    rows = [
        [
            one["combiner"],
            c.badge("here" if one["state"] == "present" else "away"),
            one["clients"],
            c.moment(one["last_seen"], "date"),
        ]
        for one in system.combiners
    ]
    return html.Div([described, c.table(columns, rows, "Combiners")])


def _stores(found: Document | None) -> Element:
    if found is None:
        return c.empty("No reducer has looked at its stores yet. It does so a few seconds after its start.")
    if found["reason"]:
        return c.empty(f"The blob store could not be seen: {found['reason']}")
    columns = [c.Column("Store"), c.Column("Blobs", True), c.Column("Size", True)]
    rows = [
        [s["name"], words.number(s["blobs"]) + ("+" if s["is_more"] else ""), words.size(s["bytes"])]
        for s in found["stores"]
    ]
    disk = found["disk"]
    parts: list[Element] = [c.table(columns, rows, "Stores")]
    if disk:
        used = f"{words.size(disk['free'])} of {words.size(disk['total'])} are free on the disk of the state directory"
        parts.append(html.P(used, className="note"))
    return html.Div(parts)


def _faults(faults: Sequence[Document]) -> Element:
    if not faults:
        return c.empty("None: no service has met a fault of its own.")
    return html.Div(
        [
            html.Article(
                [
                    html.Div([c.moment(fault["at"], "date"), " ", html.Strong(fault["sender"])]),
                    html.Div(fault["data"].get("reason", ""), className="what"),
                    html.Pre(fault["data"].get("traceback", ""), className="traceback", tabIndex=0),
                ],
                className="event",
            )
            for fault in faults
        ]
    )


PAGE = Page("/system", "System", "clock", read, controls, view)
