"""Where a round's time went, client by client, and round by round. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.columns import Columns, FloatColumn
from fedmq_dashboard.components import Element
from fedmq_dashboard.figures import OUTCOME_COLOURS, Trace, bar, figure, outcome_word, packed, spots
from fedmq_schemas.records import OUTCOMES

STEPS: dict[str, tuple[str, str]] = {
    "sent": ("#b4bac4", "task on its way"),
    "waited": ("#d9c37a", "waited at the client"),
    "fetch": ("#3aa3b8", "fetched the model"),
    "validate": ("#9a6dd0", "validated"),
    "train": ("#3d7fd0", "trained"),
    "upload": ("#2f9e77", "uploaded"),
    "returned": ("#9aa3af", "message on its way"),
    "fold": ("#d9763a", "folded"),
}


def segments(columns: Columns, planned_at: float) -> dict[str, FloatColumn]:
    """Returns the seconds of each client in each of `STEPS`, one after the other from the plan to its outcome.

    What the client did is measured on its own clock; only what is left over depends on clocks being right, and is cut to
    what there is room for. A step that was not reported is 0.
    """
    end = np.nan_to_num(columns.at - planned_at).clip(0)
    spent = {
        step: np.nan_to_num(columns.step(step)).clip(0) for step in ("fetch", "validate", "train", "upload", "fold")
    }
    did = spent["fetch"] + spent["validate"] + spent["train"] + spent["upload"]
    total = np.maximum(np.nan_to_num(columns.step("total")), did)
    room = (end - total - spent["fold"]).clip(0)
    returned = np.minimum(np.nan_to_num(columns.step("transit")).clip(0), room)
    return {"sent": room - returned, "waited": total - did, **spent, "returned": returned}


def waterfall(columns: Columns, planned_at: float, committed_at: float | None, rows: np.ndarray) -> Element:
    """Returns the steps of the clients `rows` in one round."""
    parts = segments(columns, planned_at)
    names = [columns.clients[index] for index in rows]
    traces: list[Trace] = []
    for step, (colour, label) in STEPS.items():
        values = parts[step][rows]
        if np.any(values > 0):
            hover = f"%{{y}}: {label}, %{{x:.2f}} s"
            traces.append(bar(label, packed(values), names, colour, hover, orientation="h"))
    traces += _ends(columns, planned_at, rows)
    lines = [] if committed_at is None else [_mark(committed_at - planned_at)]
    shape = figure(
        traces,
        x="seconds since the plan",
        barmode="stack",
        bargap=0.25,
        shapes=lines,
        yaxis={"type": "category", "autorange": "reversed", "showgrid": False},
        xaxis={"rangemode": "tozero"},
        margin={"t": 24},
    )
    return c.graph(
        "waterfall", shape, _sentence(columns, parts, planned_at, committed_at), max(180, 90 + 18 * len(rows))
    )


def _ends(columns: Columns, planned_at: float, rows: np.ndarray) -> list[Trace]:
    """Returns a cross where a task ended without an accepted update."""
    traces = []
    for code, outcome in enumerate(OUTCOMES):
        members = [index for index in rows if columns.outcomes[index] == code and not np.isnan(columns.at[index])]
        if outcome != "accepted" and members:
            x = [float(columns.at[index] - planned_at) for index in members]
            y = [columns.clients[index] for index in members]
            word, marker = outcome_word(outcome), {"symbol": "x", "size": 9, "color": OUTCOME_COLOURS[outcome]}
            traces.append(spots(word, x, y, f"%{{y}}: {word} at %{{x:.2f}} s", marker=marker))
    return traces


def _mark(at: float) -> dict[str, object]:
    dash = {"color": "#c2528b", "width": 1.5, "dash": "dash"}
    label = {
        "text": "committed",
        "font": {"color": "#c2528b", "size": 11},
        "textposition": "end",
        "textangle": 0,
        "xanchor": "right",
    }
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": dash, "label": label}


def _sentence(columns: Columns, parts: dict[str, FloatColumn], planned_at: float, committed_at: float | None) -> str:
    ends = columns.at - planned_at
    if np.all(np.isnan(ends)):
        return "Nobody has answered yet."
    last = int(np.nanargmax(ends))
    longest = max(STEPS, key=lambda step: float(parts[step].sum()))
    took = f"It took {words.seconds(committed_at - planned_at)}. " if committed_at is not None else ""
    return (
        f"{took}{columns.clients[last]} was the last, after {words.seconds(float(ends[last]))}; half of the clients had "
        f"answered after {words.seconds(float(np.nanmedian(ends)))}. Most of the clients' time: {STEPS[longest][1]}."
    )


def by_round(rounds: Sequence[tuple[Columns, float]]) -> Element:
    """Returns for each round the median client's steps and its slowest client; `rounds` has the time of each plan."""
    numbers = [columns.round for columns, _ in rounds]
    parts = [segments(columns, planned_at) for columns, planned_at in rounds]
    answered = [~np.isnan(columns.step("total")) for columns, _ in rounds]
    traces: list[Trace] = []
    for step, (colour, label) in STEPS.items():
        values = [
            float(np.median(part[step][reported])) if np.any(reported) else 0.0
            for part, reported in zip(parts, answered, strict=True)
        ]
        if any(values):
            traces.append(bar(label, numbers, values, colour, f"round %{{x}}: {label}, median %{{y:.2f}} s"))
    slowest = [float(np.nanmax(columns.at - at)) if np.any(~np.isnan(columns.at)) else None for columns, at in rounds]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "slowest client",
            "x": numbers,
            "y": slowest,
            "line": {"color": "#c93756", "width": 2},
            "hovertemplate": "round %{x}: slowest %{y:.2f} s<extra></extra>",
        }
    )
    shape = figure(traces, x="round", y="seconds", barmode="stack", bargap=0.1, yaxis={"rangemode": "tozero"})
    return c.graph(
        "rounds",
        shape,
        "Bars: the median client's time, step by step. Line: the client that was last. Click a round to see it.",
        340,
    )


def stragglers(rounds: Sequence[tuple[Columns, float]], most: int = 10) -> list[tuple[str, float, float]]:
    """Returns the usually slowest clients: name, median seconds from plan to outcome, and its ratio to all clients'."""
    waits: dict[str, list[float]] = {}
    for columns, planned_at in rounds:
        for name, at in zip(columns.clients, columns.at, strict=True):
            if not np.isnan(at):
                waits.setdefault(name, []).append(float(at - planned_at))
    if not waits:
        return []
    usual = {name: float(np.median(values)) for name, values in waits.items()}
    middle = float(np.median(list(usual.values()))) or 1.0
    slow = sorted(usual, key=lambda name: -usual[name])[:most]
    return [(name, usual[name], usual[name] / middle) for name in slow]


def slowest_rows(columns: Columns, most: int) -> np.ndarray:
    """Returns the last clients to answer, in the order of their answers. Clients without an answer are left out."""
    known = np.flatnonzero(~np.isnan(columns.at))
    return known[np.argsort(columns.at[known], kind="stable")][-most:]
