"""Where a round's time went, client by client, and round by round. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.columns import FloatColumn
from fedmq_dashboard.components import Element
from fedmq_dashboard.figures import OUTCOME_COLOURS, Trace, bar, figure, outcome_word, packed, spots, whole_rounds
from fedmq_dashboard.matrix import ACCEPTED
from fedmq_dashboard.waiting import OWN, TimedRound
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
    "unknown": ("#d3d7de", "unknown until it failed or abstained"),
    "missed": ("#8f98a6", "no answer by the deadline"),
}
_UNMEASURED = ("unknown", "missed")
MOST_NAMED = 3


def segments(one: TimedRound) -> dict[str, FloatColumn]:
    """Returns the seconds of each client in each of `STEPS`, one after the other from the plan to its end.

    What the client did is measured on its own clock; only what is left over depends on clocks being right, and is cut to
    what there is room for. A step that was not reported is 0. A client that reported no step has all its time in
    `missed` if it gave no answer by the deadline, or else in `unknown`.
    """
    columns, end = one.columns, np.nan_to_num(one.ends())
    spent = {step: np.nan_to_num(columns.step(step)).clip(0) for step in (*OWN, "fold")}
    did = sum((spent[step] for step in OWN), np.zeros(len(end)))
    total = np.maximum(np.nan_to_num(columns.step("total")), did)
    is_missed = one.missed()
    is_unknown = (total == 0) & ~is_missed
    room = np.where(is_missed | is_unknown, 0.0, (end - total - spent["fold"]).clip(0))
    returned = np.minimum(np.nan_to_num(columns.step("transit")).clip(0), room)
    ended = {"unknown": np.where(is_unknown, end, 0.0), "missed": np.where(is_missed, end, 0.0)}
    return {"sent": room - returned, "waited": total - did, **spent, "returned": returned, **ended}


def waterfall(one: TimedRound, rows: np.ndarray) -> Element:
    """Returns the steps of the clients `rows` in one round."""
    parts = segments(one)
    names = [one.columns.clients[index] for index in rows]
    traces: list[Trace] = []
    for step, (colour, label) in STEPS.items():
        values = parts[step][rows]
        if np.any(values > 0):
            hover = f"%{{y}}: {label}, %{{x:.2f}} s"
            trace = bar(label, packed(values), names, colour, hover, orientation="h")
            if step == "missed":
                trace["marker"] |= {"pattern": {"shape": "/"}}
            traces.append(trace)
    traces += _ends(one, rows)
    lines = [] if one.committed_at is None else [_mark("committed", one.committed_at - one.planned_at, "end")]
    if np.any(one.missed()):
        lines.append(_mark("deadline", one.deadline - one.planned_at, "start"))
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
    return c.graph("waterfall", shape, _sentence(one, parts), max(180, 90 + 18 * len(rows)))


def _ends(one: TimedRound, rows: np.ndarray) -> list[Trace]:
    """Returns a cross where a task ended without an accepted update."""
    traces, ends = [], one.ends()
    for code, outcome in enumerate(OUTCOMES):
        members = [index for index in rows if one.columns.outcomes[index] == code and not np.isnan(ends[index])]
        if outcome != "accepted" and members:
            x = [float(ends[index]) for index in members]
            y = [one.columns.clients[index] for index in members]
            word, marker = outcome_word(outcome), {"symbol": "x", "size": 9, "color": OUTCOME_COLOURS[outcome]}
            traces.append(spots(word, x, y, f"%{{y}}: {word} at %{{x:.2f}} s", marker=marker))
    return traces


def _mark(name: str, at: float, place: str) -> dict[str, object]:
    dash = {"color": "#c2528b", "width": 1.5, "dash": "dash"}
    label = {
        "text": name,
        "font": {"color": "#c2528b", "size": 11},
        "textposition": place,
        "textangle": 0,
        "xanchor": "right",
    }
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": dash, "label": label}


def _sentence(one: TimedRound, parts: dict[str, FloatColumn]) -> str:
    ends, missed, clients = one.ends(), one.missed(), one.columns.clients
    if np.all(np.isnan(ends)):
        return "Nobody has answered yet."
    answers = np.where(missed, np.inf, ends)
    sentences = []
    if one.committed_at is not None:
        sentences.append(f"It took {words.seconds(one.committed_at - one.planned_at)}.")
    if np.any(missed):
        names = [clients[index] for index in np.flatnonzero(missed)]
        who = " and ".join(names) if len(names) <= MOST_NAMED else words.plural(len(names), "client")
        sentences.append(f"{who} gave no answer by the deadline of {words.seconds(one.deadline - one.planned_at)}.")
    if not np.all(missed | np.isnan(ends)):
        last = int(np.argmax(np.where(np.isfinite(answers), answers, -1.0)))
        half = float(np.median(answers[~np.isnan(answers)]))
        middle = f"; half of the clients had answered after {words.seconds(half)}" if np.isfinite(half) else ""
        sentences.append(f"{clients[last]} was the last to answer, after {words.seconds(float(ends[last]))}{middle}.")
    measured = {step: float(parts[step].sum()) for step in STEPS if step not in _UNMEASURED}
    longest = max(measured, key=lambda step: measured[step])
    if measured[longest]:
        sentences.append(f"Most of the time that is known: {STEPS[longest][1]}.")
    return " ".join(sentences)


def by_round(rounds: Sequence[TimedRound]) -> Element:
    """Returns for each round the median steps of the clients with an accepted update, and how long it waited."""
    numbers = [one.columns.round for one in rounds]
    parts = [segments(one) for one in rounds]
    accepted = [one.columns.outcomes == ACCEPTED for one in rounds]
    traces: list[Trace] = []
    for step, (colour, label) in STEPS.items():
        values = [
            float(np.median(part[step][chosen])) if np.any(chosen) else 0.0
            for part, chosen in zip(parts, accepted, strict=True)
        ]
        if any(values):
            traces.append(bar(label, numbers, values, colour, f"round %{{x}}: {label}, median %{{y:.2f}} s"))
    ends = [one.ends() for one in rounds]
    waited = [float(np.nanmax(end)) if np.any(~np.isnan(end)) else None for end in ends]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "waited for the last client",
            "x": numbers,
            "y": waited,
            "line": {"color": "#c93756", "width": 2},
            "hovertemplate": "round %{x}: waited %{y:.2f} s<extra></extra>",
        }
    )
    axes = {"xaxis": whole_rounds(numbers), "yaxis": {"rangemode": "tozero"}}
    shape = figure(traces, x="round", y="seconds", barmode="stack", bargap=0.1, **axes)
    return c.graph(
        "rounds",
        shape,
        "Bars: the median client's time, step by step. Line: until the last client's answer, or the deadline that "
        "somebody missed. Click a round to see it.",
        340,
    )


def slowest_rows(one: TimedRound, most: int) -> np.ndarray:
    """Returns the clients that the round waited for longest, the last one at the end."""
    return np.argsort(np.nan_to_num(one.ends()), kind="stable")[-most:]
