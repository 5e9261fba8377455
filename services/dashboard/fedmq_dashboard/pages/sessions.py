"""`/sessions`: all sessions, and a comparison of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from fedmq.records.base import Document
from fedmq.records.durations import seconds_queued, seconds_run
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.charts import curves
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.figures import SERIES, Trace, figure, line
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.live import AXES
from fedmq_dashboard.pages.page import NO_SESSION, Page, choose, metric_control, session_label
from fedmq_dashboard.query import Query

MOST = 8
COMPARED = 3


@dataclass(frozen=True, slots=True)
class One:
    """A session that is compared. `causes`: why updates were not accepted and validations have no metrics, line by line."""

    session: Document
    rounds: Sequence[Document]
    trail: Sequence[Document]
    causes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All sessions, newest first, those to compare, in the order chosen, and how many rounds each session committed."""

    sessions: Sequence[Document]
    compared: Sequence[One]
    done: Mapping[str, int]


def read(history: History, live: Live, query: Query) -> Comparison:
    """Reads what the page shows."""
    sessions = history.sessions()
    by_name = {session["session"]: session for session in sessions}
    begun = [session["session"] for session in sessions if session["state"] != "queued"]
    wanted = [name for name in query.names("compare") if name in by_name] or begun[:COMPARED]
    compared = [_one(history, by_name[name]) for name in wanted[:MOST]]
    return Comparison(sessions, compared, {session["session"]: history.rounds_done(session) for session in sessions})


def _one(history: History, session: Document) -> One:
    name, causes = session["session"], history.causes(session)
    return One(session, history.rounds(name), history.trail(session), causes)


def _names(comparison: Comparison) -> list[str]:
    return words.metric_names(model["metrics"] for one in comparison.compared for model in one.trail)


def controls(comparison: Comparison, query: Query) -> list[Control]:
    """Returns the page's controls."""
    options = {session["session"]: session_label(session) for session in comparison.sessions}
    compared = ",".join(one.session["session"] for one in comparison.compared)
    names = _names(comparison)
    return [
        Control("compare", "Compare", options, compared, multi=True, placeholder="the newest"),
        metric_control(names, choose(query.get("metric"), names)),
        Control("x", "Against", dict(AXES), choose(query.get("x"), list(AXES))),
    ]


def view(comparison: Comparison, query: Query) -> list[Element]:
    """Returns the page's body."""
    if not comparison.sessions:
        return [c.card("Sessions", c.empty(NO_SESSION))]
    metric = choose(query.get("metric"), _names(comparison))
    axis = choose(query.get("x"), list(AXES)) or "round"
    return [
        c.card(f"{metric or 'Metrics'} by {AXES[axis]}", _plot(comparison, metric, axis), *_causes(comparison)),
        c.card("What differs in their seeds and policies", _differences(comparison, metric), id="differences"),
        c.card("All sessions", _list(comparison.sessions, comparison.done)),
    ]


def _plot(comparison: Comparison, metric: str | None, axis: str) -> Element:
    if metric is None:
        return c.empty("None of these sessions has a validated model yet.")
    traces: list[Trace] = []
    newest: list[str] = []
    positions = [curves.positions_of(one.session, one.rounds, axis) for one in comparison.compared]
    scale, unit = curves.scale_of(axis, [place for places in positions for place in places.values()])
    for number, (one, places) in enumerate(zip(comparison.compared, positions, strict=True)):
        points = [
            (places[model["round"]] / scale, model["metrics"][metric]["mean"])
            for model in one.trail
            if metric in model["metrics"] and model["round"] in places
        ]
        if points:
            name = one.session["name"] or one.session["session"]
            traces.append(line(name, [x for x, _ in points], [y for _, y in points], SERIES[number % len(SERIES)]))
            newest.append(f"{name} {words.number(points[-1][1])}")
    if not traces:
        return c.empty(f"None of these sessions has {metric}.")
    return c.graph("compare", figure(traces, x=unit, y=metric), f"Last mean {metric}: {'; '.join(newest)}.", 360)


def _causes(comparison: Comparison) -> list[Element]:
    return [
        html.P(f"{one.session['name'] or one.session['session']}: {line}", className="reason")
        for one in comparison.compared
        for line in one.causes
    ]


def flatten(policy: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a policy's fields with dotted names, as `--set` writes them. An empty table has no field."""
    flat: dict[str, Any] = {}
    for name, value in policy.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(policies: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the fields in which the policies differ, with the value of each policy; None where it lacks the field.

    The name, which changes nothing, and the seed, which may be left to the reducer, are not compared.
    """
    flat = [flatten(policy) for policy in policies]
    names = sorted({name for policy in flat for name in policy} - {"name", "seed"})
    return {
        name: values
        for name in names
        for values in [[policy.get(name) for policy in flat]]
        if any(value != values[0] for value in values)
    }


def seeds(compared: Sequence[One], metric: str | None) -> list[str]:
    """Returns the model from which each session started, with its score in that session."""
    return [_seed(one, metric) for one in compared]


def _seed(one: One, metric: str | None) -> str:
    seed = one.session["seed"]
    if seed is None:
        wanted = one.session["policy"].get("seed")
        return f"{wanted} (queued)" if wanted else "the newest model at its start (queued)"
    first = next((model for model in one.trail if model["round"] == 0), None)
    score = first["metrics"].get(metric) if first else None
    return f"{seed} ({metric} {words.number(score['mean'])})" if score else str(seed)


def _differences(comparison: Comparison, metric: str | None) -> Element:
    compared = comparison.compared
    if len(compared) < 2:
        return c.empty("Choose at least two sessions to compare their seeds and policies.")
    started = {one.session["seed"] for one in compared}
    found = differences([one.session["policy"] for one in compared])
    if len(started) == 1 and not found:
        return c.empty("Their seeds and policies are the same.")
    columns = [
        c.Column("Field"),
        *(c.Column(one.session["name"] or one.session["session"]) for one in compared),
    ]
    rows: list[list[Element]] = [["seed", *seeds(compared, metric)]]
    rows += [[name, *(_shown(value) for value in values)] for name, values in found.items()]
    table = c.table(columns, rows, "The seeds, and the fields in which the policies differ", id="differing")
    return (
        html.Div([html.P("They start from different models.", className="reason"), table])
        if len(started) > 1
        else table
    )


def _shown(value: Any) -> str:
    return "–" if value in (None, "", {}, []) else str(value)


def _list(sessions: Sequence[Document], done: Mapping[str, int]) -> Element:
    columns = [
        c.Column("Session"),
        c.Column("State"),
        c.Column("Rounds", True),
        c.Column("Strategy"),
        c.Column("Created"),
        c.Column("In the queue", True),
        c.Column("Took", True),
        c.Column("Why it ended"),
    ]
    rows = []
    for session in sessions:
        policy = session["policy"]
        rows.append(
            [
                c.link(
                    session["name"] or session["session"], f"/?session={session['session']}", title=session["session"]
                ),
                c.badge(session["state"]),
                f"{done[session['session']]} of {policy['rounds']}",
                policy["strategy"]["name"],
                c.moment(session["created_at"], "date"),
                words.seconds(seconds_queued(session)),
                words.seconds(seconds_run(session)),
                session["reason"] or session["waiting"],
            ]
        )
    return c.table(columns, rows, "All sessions, newest first", id="sessions")


PAGE = Page("/sessions", "Sessions", "rounds", read, controls, view)
