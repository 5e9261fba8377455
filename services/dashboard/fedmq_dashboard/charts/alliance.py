"""The alliance as a graph: the reducer in the middle, combiners around it, each with its clients. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Element
from fedmq_dashboard.feed import RoundInProgress
from fedmq_dashboard.figures import OUTCOME_COLOURS, Trace, edges, figure, outcome_word, spots

STATES: dict[str, str] = {
    "here": "#5b93d6",
    "working": "#e0b03a",
    **{outcome_word(outcome): colour for outcome, colour in OUTCOME_COLOURS.items()},
    "away": "#b9bfc9",
}
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
MOST_SVG = 2_000
MOST_LABELS = 12
MOST_LINKS = 60
STRETCH = 1.35

Place = tuple[float, float]


def draw(
    clients: Sequence[Document], combiners: Sequence[Document], asked: Sequence[str], running: RoundInProgress | None
) -> Element:
    """Returns the graph, or None if nobody is known."""
    names = sorted({document["combiner"] for document in (*clients, *combiners)})
    if not names:
        return None
    at, places = _places(names, clients)
    states = _states(clients, set(asked), running)
    marker = "scattergl" if len(clients) > MOST_SVG else "scatter"
    links = [((0.0, 0.0), place) for place in at.values()]
    if len(clients) <= MOST_LINKS:
        links += [(at[client["combiner"]], places[client["client"]]) for client in clients]
    traces = [edges(links)]
    for state in STATES:
        members = [client for client in clients if states[client["client"]] == state]
        if members:
            traces.append(_members(marker, state, members, places, len(clients)))
    present = {document["combiner"] for document in combiners if document["state"] == "present"}
    traces += _combiners(names, at, present)
    if len(names) <= MOST_LABELS:
        traces.append(_labels(names, at, clients))
    axis = {"visible": False}
    shape = figure(traces, xaxis=axis, yaxis={**axis, "scaleanchor": "x"}, hovermode="closest")
    counts = {state: sum(value == state for value in states.values()) for state in STATES}
    described = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return c.graph("alliance", shape, f"{words.plural(len(names), 'combiner')}; clients: {described or 'none'}.", 340)


def _states(clients: Sequence[Document], asked: set[str], running: RoundInProgress | None) -> dict[str, str]:
    answers: Mapping[str, str] = running.answers if running is not None else {}
    states = {}
    for client in clients:
        name = client["client"]
        if name in answers:
            states[name] = outcome_word(answers[name])
        elif client["state"] != "present":
            states[name] = "away"
        else:
            states[name] = "working" if name in asked else "here"
    return states


def _places(names: Sequence[str], clients: Sequence[Document]) -> tuple[dict[str, Place], dict[str, Place]]:
    """Returns the places of combiners and clients. Clients are in a sunflower around theirs, evenly for any number."""
    members: dict[str, list[str]] = {name: [] for name in names}
    for client in clients:
        members[client["combiner"]].append(client["client"])
    widest = max(math.sqrt(len(group) + 1) for group in members.values()) + 1
    away = 0.0 if len(names) == 1 else 1.15 * widest / math.sin(math.pi / len(names)) + 1
    at: dict[str, Place] = {}
    places: dict[str, Place] = {}
    for index, (name, group) in enumerate(members.items()):
        angle = math.pi - 2 * math.pi * index / len(names)
        centre = (STRETCH * away * math.cos(angle), away * math.sin(angle)) if away else (2.5 + widest, 0.0)
        at[name] = centre
        for number, member in enumerate(sorted(group), start=1):
            radius, turn = math.sqrt(number) + 0.8, number * GOLDEN_ANGLE
            places[member] = (centre[0] + radius * math.cos(turn), centre[1] + radius * math.sin(turn))
    return at, places


def _members(kind: str, state: str, members: Sequence[Document], places: Mapping[str, Place], total: int) -> Trace:
    at = [places[client["client"]] for client in members]
    diameter = 13 if total <= 30 else 9 if total <= 200 else 5
    marker = {"size": diameter, "color": STATES[state], "symbol": "circle-open" if state == "away" else "circle"}
    names = [client["client"] for client in members]
    hover = f"%{{text}}: {state}"
    return spots(state, [x for x, _ in at], [y for _, y in at], hover, type=kind, text=names, marker=marker)


def _combiners(names: Sequence[str], at: Mapping[str, Place], present: set[str]) -> list[Trace]:
    colours = ["#7c5cc4" if name in present else "#b9bfc9" for name in names]
    common: Trace = {
        "type": "scatter",
        "mode": "markers",
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    places = [at[name] for name in names]
    return [
        common
        | {
            "x": [0.0],
            "y": [0.0],
            "text": ["reducer"],
            "mode": "markers+text",
            "textposition": "bottom center",
            "marker": {"size": 20, "color": "#c2528b", "symbol": "diamond"},
        },
        common
        | {
            "x": [place[0] for place in places],
            "y": [place[1] for place in places],
            "text": list(names),
            "marker": {"size": 16, "color": colours, "symbol": "square"},
        },
    ]


def _labels(names: Sequence[str], at: Mapping[str, Place], clients: Sequence[Document]) -> Trace:
    """Returns each combiner's name below its clients."""
    sizes = {name: sum(client["combiner"] == name for client in clients) for name in names}
    below = [(at[name][0], at[name][1] - math.sqrt(sizes[name]) - 1.2) for name in names]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [place[0] for place in below],
        "y": [place[1] for place in below],
        "text": list(names),
        "hoverinfo": "skip",
        "showlegend": False,
    }
