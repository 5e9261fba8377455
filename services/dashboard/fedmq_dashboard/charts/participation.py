"""Clients against rounds: the outcome of each task, and the norm of each update. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Element
from fedmq_dashboard.figures import OUTCOME_COLOURS, Trace, figure, outcome_word, packed, whole_rounds
from fedmq_dashboard.matrix import NOT_ASKED, Matrix, nanmedian
from fedmq_schemas.records import OUTCOMES

MOST_TEXTS = 20_000
ROW_PIXELS = 13
ODD = 3.5
"""The robust z-score from which a norm is unusual (Iglewicz and Hoaglin, 1993)."""
MOST_NAMED = 3


def outcomes(matrix: Matrix, rows: np.ndarray) -> Element:
    """Returns the outcomes of the clients `rows`, from top to bottom."""
    codes = matrix.outcomes[rows]
    z = np.where(codes == NOT_ASKED, np.nan, codes).astype(np.float32)
    steps = len(OUTCOMES)
    scale = [
        [edge / steps, OUTCOME_COLOURS[outcome]]
        for index, outcome in enumerate(OUTCOMES)
        for edge in (index, index + 1)
    ]
    trace: Trace = _heat(matrix, rows) | {
        "z": packed(z),
        "zmin": -0.5,
        "zmax": steps - 0.5,
        "colorscale": scale,
        "showscale": False,
        "hovertemplate": "%{y}, round %{x}<extra></extra>",
    }
    if codes.size <= MOST_TEXTS:
        phrases = [*(outcome_word(outcome) for outcome in OUTCOMES), "not asked"]
        trace["text"] = [[phrases[code] for code in line] for line in codes.tolist()]
        trace["hovertemplate"] = "%{y}, round %{x}: %{text}<extra></extra>"
    present = [outcome for code, outcome in enumerate(OUTCOMES) if np.any(codes == code)]
    legend = c.legend([(outcome_word(outcome), OUTCOME_COLOURS[outcome]) for outcome in present])
    counts = {outcome: int(np.count_nonzero(matrix.outcomes == code)) for code, outcome in enumerate(OUTCOMES)}
    summary = ", ".join(f"{count:,} {outcome_word(outcome)}" for outcome, count in counts.items() if count)
    shape = figure([trace], x="round", yaxis=_clients(rows), xaxis=_rounds(matrix))
    return c.graph(
        "matrix", shape, f"All tasks of this session: {summary}. Click a cell to see why.", _height(rows), legend
    )


def norms(matrix: Matrix, rows: np.ndarray) -> Element:
    """Returns the norms of the updates of the clients `rows`."""
    relative = matrix.relative_norms()
    if not np.any(np.isfinite(relative)):
        return c.empty("No update has been accepted yet, so there is no norm to compare.")
    scale = [
        (0.0, "#2f6fc0"),
        (0.25, "#86abdc"),
        (0.5, "rgba(140,148,160,0.16)"),
        (0.75, "#e39a66"),
        (1.0, "#c2381f"),
    ]
    trace = _heat(matrix, rows) | {
        "z": packed(relative[rows].astype(np.float32)),
        "zmin": -2,
        "zmax": 2,
        "colorscale": scale,
        "showscale": False,
        "hovertemplate": "%{y}, round %{x}: 2^%{z:.2f} of the median<extra></extra>",
    }
    shape = figure([trace], x="round", yaxis=_clients(rows), xaxis=_rounds(matrix))
    words_of_scale = ("a quarter of the median or less", "half", "the median", "twice", "four times or more")
    legend = c.legend(list(zip(words_of_scale, [colour for _, colour in scale], strict=True)))
    return c.graph("norms", shape, _odd(matrix, relative), _height(rows), legend)


def _odd(matrix: Matrix, relative: np.ndarray) -> str:
    usual, scores = nanmedian(relative, axis=1), matrix.norm_scores()
    order = [index for index in np.argsort(-np.nan_to_num(scores), kind="stable") if np.isfinite(scores[index])]
    large = [index for index in order if scores[index] >= ODD]
    small = [index for index in reversed(order) if scores[index] <= -ODD]

    def named(indexes: Sequence[int]) -> str:
        rest = f" and {len(indexes) - MOST_NAMED} more" if len(indexes) > MOST_NAMED else ""
        return ", ".join(f"{matrix.clients[i]} ({2 ** usual[i]:.1f} times)" for i in indexes[:MOST_NAMED]) + rest

    parts = ["Each update's norm beside the median of its round."]
    parts.append(
        f"Unusually large: {named(large)}." if large else f"None is unusually large; largest: {named(order[:1])}."
    )
    if small:
        parts.append(f"Unusually small: {named(small)}.")
    return " ".join(parts)


def _heat(matrix: Matrix, rows: np.ndarray) -> Trace:
    gap = 1 if len(rows) <= 80 and len(matrix.rounds) <= 120 else 0
    names = [matrix.clients[index] for index in rows]
    return {"type": "heatmap", "x": list(matrix.rounds), "y": names, "xgap": gap, "ygap": gap, "hoverongaps": False}


def _clients(rows: np.ndarray) -> dict[str, object]:
    return {"autorange": "reversed", "type": "category", "showticklabels": len(rows) <= 80, "showgrid": False}


def _rounds(matrix: Matrix) -> dict[str, object]:
    return {"showgrid": False, **whole_rounds(matrix.rounds)}


def _height(rows: np.ndarray) -> int:
    return min(900, max(200, 90 + ROW_PIXELS * len(rows)))


def shares(matrix: Matrix, most: int = 15) -> Element:
    """Returns the share of each client in the weights of the whole session."""
    total = float(matrix.weights.sum())
    if not total:
        return c.empty("No update has been accepted yet, so nobody has a share.")
    order = np.argsort(-matrix.weights, kind="stable")
    top = order[:most]
    bar: Trace = {
        "type": "bar",
        "orientation": "h",
        "y": [matrix.clients[index] for index in top],
        "x": [100 * matrix.weights[index] / total for index in top],
        "marker": {"color": "#3d7fd0"},
        "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
    }
    shape = figure([bar], x="% of all accepted weight", yaxis={"autorange": "reversed", "type": "category"})
    half = int(np.searchsorted(np.cumsum(matrix.weights[order]), total / 2)) + 1
    rest = f" The {len(order) - most:,} others are not drawn." if len(order) > most else ""
    summary = f"{words.plural(half, 'client')} of {len(order):,} together have half of the weight.{rest}"
    return c.graph("shares", shape, summary, 90 + 22 * len(top))
