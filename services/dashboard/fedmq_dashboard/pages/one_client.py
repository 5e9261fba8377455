"""One client: its description and its events, with tracebacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dash import html

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Element
from fedmq_dashboard.figures import outcome_word
from fedmq_dashboard.history import History
from fedmq_dashboard.matrix import Matrix
from fedmq_dashboard.pages.live import what
from fedmq_dashboard.pages.page import session_label
from fedmq_dashboard.query import Query
from fedmq_schemas.records import OUTCOMES

EVENTS = 12
EVENTS_READ = 40
_OUTCOMES = [f"update.{outcome}" for outcome in OUTCOMES]
_VALIDATED = "model.validated"


@dataclass(frozen=True, slots=True)
class OneClient:
    """The chosen client, how many tasks of the session had each outcome, and its newest events in the session.

    With a round: all events of this round. Without one: the outcomes of tasks, and validations with a reason or notes. Of a
    client without tasks, as an evaluator is: all validations.
    """

    name: str
    session: Document | None
    round: int | None
    document: Document | None
    counts: Mapping[str, int]
    events: Sequence[Document]


def read_one(history: History, query: Query, session: Document | None, matrix: Matrix) -> OneClient | None:
    """Reads the chosen client; None if none is chosen."""
    name = query.get("client")
    if name is None:
        return None
    number = query.number("round", -1)
    known = next((client for client in history.clients() if client["client"] == name), None)
    counts = matrix.counts(name)
    events: Sequence[Document] = ()
    if session is not None:
        where: Document = {"client": name, "session": session["session"]}
        where |= {"name": [*_OUTCOMES, _VALIDATED]} if number < 0 else {"round": number}
        events = history.events(where, EVENTS_READ)
        if number < 0:
            events = [event for event in events if not counts or _matters(event)][:EVENTS]
    return OneClient(name, session, number if number >= 0 else None, known, counts, events)


def _matters(event: Document) -> bool:
    return event["name"] != _VALIDATED or bool(event["data"].get("reason") or event["data"].get("notes"))


def one_client(one: OneClient, query: Query) -> Element:
    """Returns the section about one client."""
    where = f" in {session_label(one.session)}" if one.session else ""
    title = f"{one.name}{where}" if one.round is None else f"{one.name}, round {one.round}{where}"
    close = c.link("close", f"/clients{query.search(client=None, round=None)}", className="button")
    parts: list[Element] = []
    if one.document is not None:
        client = one.document
        parts.append(
            c.facts(
                c.fact("State", c.badge("here" if client["state"] == "present" else "away")),
                c.fact("Combiner", client["combiner"]),
                c.fact("Does", ", ".join(client["tasks"])),
                c.fact("Announced weight", words.number(client["weight"])),
                c.fact("Since", c.moment(client["last_seen"], "date")),
            )
        )
    if one.round is not None:
        parts.append(c.link("all rounds of this client", f"/clients{query.search(round=None)}"))
    if one.counts:
        counted = ", ".join(f"{count:,} {outcome_word(outcome)}" for outcome, count in one.counts.items())
        parts.append(html.P(f"{words.plural(sum(one.counts.values()), 'task')} in this session: {counted}."))
    if not one.events:
        parts.append(c.empty("Nothing is recorded of it here: it was not asked, or has not answered."))
    parts += [_event(event) for event in one.events]
    return c.card(title, *parts, note=close, id="client")


def _event(event: Document) -> Element:
    data = event["data"]
    where = "" if event["round"] is None else f"round {event['round']}"
    head: list[Element] = [
        c.moment(event["at"]),
        " ",
        c.badge(event["name"], event["name"].partition(".")[2]),
        " ",
        where,
    ]
    parts: list[Element] = [html.Div(head), html.Div(_told(event), className="what")]
    parts += [html.Div(note, className="what") for note in data.get("notes", ())]
    if data.get("traceback"):
        parts.append(html.Pre(data["traceback"], className="traceback", tabIndex=0))
    return html.Article(parts, className="event")


def _told(event: Document) -> str:
    data = event["data"]
    if event["name"] == "update.accepted":
        spent = ", ".join(
            f"{step} {words.seconds(value)}" for step, value in data["seconds"].items() if step != "transit"
        )
        return f"weight {words.number(data['weight'])}, norm {words.number(data['norm'])}; {spent}"
    if event["name"] == "model.validated":
        metrics = ", ".join(f"{name} {words.number(value)}" for name, value in data["metrics"].items())
        return metrics or data.get("reason") or "no metrics"
    return what(event)
