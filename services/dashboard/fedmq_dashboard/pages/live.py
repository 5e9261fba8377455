"""`/`: the present state of the alliance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dash import html

from fedmq.records.base import Document
from fedmq.records.durations import seconds_queued
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.charts import alliance, curves, outcomes
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.feed import RoundInProgress
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import NO_SESSION, Page, choose, metric_control, session_control
from fedmq_dashboard.query import Query
from fedmq_schemas.records import ENDED, EVENT_NAMES

LOG_LINES = 60
NAMED = 8
AXES = {"round": "round", "hours": "time", "bytes": "bytes sent and received"}
_CHATTER = ("update.accepted", "model.validated", "task.progress")
_TROUBLE = (
    "update.rejected",
    "update.discarded",
    "update.failed",
    "update.absent",
    "validation.absent",
    "round.retried",
    "session.failed",
    "session.refused",
    "client.vanished",
    "combiner.vanished",
    "plan.voided",
    "message.refused",
    "actor.error",
)
LOGS: dict[str, tuple[str, ...]] = {
    "decisions": tuple(name for name in EVENT_NAMES if name not in _CHATTER and not name.startswith("update.")),
    "troubles": _TROUBLE,
    "everything": (),
}


@dataclass(frozen=True, slots=True)
class LivePage:
    """The page's data. `late` maps a round to its number of late updates.

    `causes` states why updates were not accepted and validations have no metrics, a line for each reason.
    """

    sessions: Sequence[Document]
    session: Document | None
    rounds: Sequence[Document]
    trail: Sequence[Document]
    open: RoundInProgress | None
    asked: Sequence[str]
    clients: Sequence[Document]
    combiners: Sequence[Document]
    log: Sequence[Document]
    late: dict[int, int]
    causes: Sequence[str] = ()


def read(history: History, live: Live, query: Query) -> LivePage:
    """Reads what the page shows."""
    session = history.session(query.get("session"))
    clients, combiners = history.clients(), history.combiners()
    where = {"name": list(LOGS[choose(query.get("log"), list(LOGS)) or "decisions"])}
    log = history.events(where if where["name"] else None, LOG_LINES)
    if session is None:
        return LivePage(history.sessions(), None, (), (), None, (), clients, combiners, log, {})
    name = session["session"]
    newest = history.newest_attempt(name)
    running = live.open_round(name) if session["state"] not in ENDED else None
    asked = [client for plan in newest["plans"] for client in plan["clients"]] if newest and running else []
    late: dict[int, int] = {}
    for number, _ in history.late(name):
        late[number] = late.get(number, 0) + 1
    return LivePage(
        history.sessions(),
        session,
        history.rounds(name),
        history.trail(session),
        running,
        asked,
        clients,
        combiners,
        log,
        late,
        history.causes(session),
    )


def controls(now: LivePage, query: Query) -> list[Control]:
    """Returns the page's controls."""
    names = curves.names(now.trail, now.rounds)
    return [
        session_control(now.sessions, now.session),
        metric_control(names, choose(query.get("metric"), names)),
        Control("x", "Against", dict(AXES), choose(query.get("x"), list(AXES))),
        Control("log", "Log", {name: name for name in LOGS}, choose(query.get("log"), list(LOGS))),
    ]


def view(now: LivePage, query: Query) -> list[Element]:
    """Returns the page's body."""
    here = [client for client in now.clients if client["state"] == "present"]
    shape = alliance.draw(now.clients, now.combiners, now.asked, now.open)
    note = f"{words.plural(len(here), 'client')} here, {len(now.clients) - len(here)} away"
    graph: Element = c.empty("No combiner and no client has come yet.") if shape is None else shape
    metric = choose(query.get("metric"), curves.names(now.trail, now.rounds))
    axis = choose(query.get("x"), list(AXES)) or "round"
    return [
        _progress(now),
        c.card("Alliance", graph, note=note, wide=False),
        c.card("Updates by outcome", outcomes.draw(now.rounds, now.late), wide=False),
        c.card(f"{metric or 'Metrics'} by {AXES[axis]}", curves.draw(now.session, now.trail, now.rounds, metric, axis)),
        c.card("Events", _log(now.log), note="newest first", id="events"),
    ]


def _progress(now: LivePage) -> Element:
    session = now.session
    if session is None:
        return c.card("Session", c.empty(NO_SESSION), id="progress")
    done, wanted = len(now.rounds), session["policy"]["rounds"]
    parts: list[Element] = [
        html.Div(
            [
                html.Label(f"{done} of {words.plural(wanted, 'round')}", htmlFor="rounds"),
                html.Progress(str(done), id="rounds", value=str(done), max=str(wanted)),
            ],
            className="progress",
        )
    ]
    running = now.open
    if running is not None:
        parts.append(_open_round(running, now.asked))
    elif session["waiting"]:
        until = session["waiting_until"]
        left: Element = html.Span([", ", c.moment(until, "left")]) if until else None
        parts.append(html.P([session["waiting"], left], className="waiting"))
    elif session["reason"]:
        parts.append(html.P(session["reason"], className="reason"))
    parts += [html.P(line, className="reason") for line in now.causes]
    model = now.trail[-1]["model"] if now.trail else None
    newest: Element = c.link(words.short(model), f"/models?model={model}") if model else "–"
    policy = session["policy"]
    waited = seconds_queued(session)
    queued = f"after {words.seconds(waited)} in the queue" if waited is not None and waited >= 1 else ""
    parts.append(
        c.facts(
            c.fact("State", c.badge(session["state"])),
            c.fact("Newest model", newest),
            c.fact("Strategy", policy["strategy"]["name"]),
            c.fact("Needs", words.plural(policy["clients_required"], "client"), "a round"),
            c.fact("Last round", words.seconds(now.rounds[-1]["seconds"]) if now.rounds else "–"),
            c.fact("Began", c.moment(session.get("started_at"), "date"), queued),
        )
    )
    return c.card(session["name"] or session["session"], *parts, note=session["session"], id="progress")


def _open_round(running: RoundInProgress, asked: Sequence[str]) -> Element:
    answered = len(running.answers)
    silent = sorted(set(asked) - running.answers.keys())
    names = "".join([" · not yet: ", ", ".join(silent[:NAMED]), ", …" if len(silent) > NAMED else ""] if silent else [])
    busy = [fraction for client, fraction in running.fractions.items() if client not in running.answers]
    reports = f", {len(busy)} report {100 * sum(busy) / len(busy):.0f} % done" if busy else ""
    attempt = f", attempt {running.attempt}" if running.attempt > 1 else ""
    return html.Div(
        [
            html.Label(
                f"Round {running.round}{attempt}: {answered} of {running.asked} have answered{reports}",
                htmlFor="answers",
            ),
            html.Progress(str(answered), id="answers", value=str(answered), max=str(max(1, running.asked))),
            html.Span(
                ["deadline ", c.moment(running.deadline), " · ", c.moment(running.deadline, "left"), names],
                className="note",
            ),
        ],
        className="progress",
    )


def _log(log: Sequence[Document]) -> Element:
    if not log:
        return c.empty("Nothing of this kind has happened.")
    columns = [
        c.Column("Time"),
        c.Column("Event"),
        c.Column("Session"),
        c.Column("Round", True),
        c.Column("Who"),
        c.Column("What"),
    ]
    rows = [
        [
            c.moment(event["at"]),
            c.badge(event["name"], event["name"].partition(".")[2]),
            words.short(event["session"] or "", 22),
            "" if event["round"] is None else event["round"],
            event["client"] or event["combiner"] or event["sender"],
            what(event),
        ]
        for event in log
    ]
    return c.table(columns, rows, "Events, newest first")


def what(event: Document) -> str:
    """Returns an event's own reason, or else the meaning of its name."""
    data = event["data"]
    if data.get("reason"):
        return str(data["reason"])
    if event["name"] == "round.committed":
        updates = words.plural(data["counts"].get("accepted", 0), "update")
        return f"{data['model']}, {updates}, {words.seconds(data['seconds'])}"
    if event["name"] == "round.planned":
        return f"{words.plural(data['clients'], 'client')} at {words.plural(data['combiners'], 'combiner')}"
    return EVENT_NAMES.get(event["name"], "").partition(";")[0]


PAGE = Page("/", "Live", "any", read, controls, view)
