"""Figures as plain data for Plotly, with colours that can be read in the light and the dark theme. Pure."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Figure = dict[str, Any]
Trace = dict[str, Any]

OUTCOME_COLOURS: dict[str, str] = {
    "accepted": "#2f9e77",
    "discarded": "#d9a21b",
    "rejected": "#d2601a",
    "failed": "#c93756",
    "abstained": "#7a86cf",
    "absent": "#8f98a6",
}
OUTCOME_WORDS: dict[str, str] = {"discarded": "late"}
SERIES = ("#3d7fd0", "#d9763a", "#2f9e77", "#9a6dd0", "#c93756", "#b08a1e", "#3aa3b8", "#7d8794")
BAND = "rgba(61,127,208,0.18)"
INNER_BAND = "rgba(61,127,208,0.3)"
TEST = "#d9763a"

_FONT = {"family": "system-ui, sans-serif", "size": 12}


def outcome_word(outcome: str) -> str:
    """Returns the word for an outcome: `discarded` updates are called late."""
    return OUTCOME_WORDS.get(outcome, outcome)


def figure(traces: Sequence[Trace], *, x: str = "", y: str = "", **layout: Any) -> Figure:
    """Returns a figure with the layout that all plots share. `layout` is merged into it, axes key by key."""
    axis = {"automargin": True, "zeroline": False, "fixedrange": True, "title": {"standoff": 8}}
    base: Figure = {
        "font": _FONT,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8, "pad": 4},
        "hovermode": "closest",
        "hoverlabel": {"font": _FONT},
        "uirevision": "kept",
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}},
    }
    for name, value in layout.items():
        base[name] = {**base[name], **value} if isinstance(base.get(name), dict) else value
    return {"data": list(traces), "layout": base}


def whole_rounds(numbers: Collection[float]) -> dict[str, Any]:
    """Returns what an axis of rounds needs, so that no mark lies between two rounds."""
    few = max(numbers, default=0) - min(numbers, default=0) <= 15
    return {"dtick": 1 if few else None, "tickformat": "d"}


def packed(values: npt.NDArray[Any]) -> Any:
    """Returns an array in Plotly's compact form. NaN is a gap."""
    kinds = {"int8": "i1", "int16": "i2", "float32": "f4", "float64": "f8"}
    contiguous = np.ascontiguousarray(values)
    document = {"dtype": kinds[str(contiguous.dtype)], "bdata": base64.b64encode(contiguous.tobytes()).decode()}
    if contiguous.ndim == 2:
        document["shape"] = f"{contiguous.shape[0]},{contiguous.shape[1]}"
    return document


def line(name: str, x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> Trace:
    """Returns a line, with a marker at each point if there are few points."""
    style = {"color": colour, "width": 2, **more.pop("line", {})}
    markers = {"mode": "lines+markers", "marker": {"size": 5}} if len(x) < 40 else {"mode": "lines"}
    return {"type": "scatter", "name": name, "x": list(x), "y": list(y), "line": style, **markers, **more}


def bar(name: str, x: Any, y: Any, colour: str, hover: str, **more: Any) -> Trace:
    """Returns bars. `hover` is the text at the pointer."""
    marker = {"color": colour, "line": {"width": 0}}
    shape: Trace = {"type": "bar", "name": name, "x": x, "y": y, "marker": marker}
    return shape | {"hovertemplate": f"{hover}<extra></extra>", **more}


def spots(name: str, x: Sequence[Any], y: Sequence[Any], hover: str, **more: Any) -> Trace:
    """Returns a marker at each point. `hover` is the text at the pointer."""
    shape: Trace = {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y}
    return shape | {"hovertemplate": f"{hover}<extra></extra>", **more}


def edges(links: Iterable[tuple[tuple[float, float], tuple[float, float]]]) -> Trace:
    """Returns thin lines between pairs of places."""
    x: list[float | None] = []
    y: list[float | None] = []
    for one, other in links:
        x += [one[0], other[0], None]
        y += [one[1], other[1], None]
    stroke = {"color": "rgba(128,138,152,0.6)", "width": 1.5}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": stroke,
        "hoverinfo": "skip",
        "showlegend": False,
    }
