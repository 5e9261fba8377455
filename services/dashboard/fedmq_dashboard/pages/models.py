"""`/models`: the trail as a tree, and all that is known of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from fedmq.records.base import Document
from fedmq_dashboard import components as c
from fedmq_dashboard import words
from fedmq_dashboard.components import Control, Element
from fedmq_dashboard.figures import SERIES, edges, figure, spots
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages.page import Changes, Page, Point
from fedmq_dashboard.query import Query
from fedmq_schemas.records import is_kept

SNIPPETS: dict[str, str] = {
    "numpy": 'from safetensors.numpy import load_file\nweights = load_file("model.safetensors")',
    "Keras": (
        "from safetensors.numpy import load_file\n"
        'weights = load_file("model.safetensors")\n'
        "model.set_weights([weights[name] for name in sorted(weights)])"
    ),
    "PyTorch": 'from safetensors.torch import load_file\nmodel.load_state_dict(load_file("model.safetensors"))',
}
MOST_IN_TREE = 1_000


@dataclass(frozen=True, slots=True)
class ModelTrail:
    """Models, newest first; the chosen one with its round and its summaries in the sessions that started from it."""

    models: Sequence[Document]
    chosen: Document | None
    round: Document | None
    summaries: Sequence[Document]


def read(history: History, live: Live, query: Query) -> ModelTrail:
    """Reads what the page shows."""
    models = history.models(MOST_IN_TREE)
    wanted = query.get("model")
    chosen = history.model(wanted) if wanted else next(iter(models), None)
    committed = None
    if chosen is not None and chosen["session"]:
        committed = next((r for r in history.rounds(chosen["session"]) if r["round"] == chosen["round"]), None)
    summaries = history.summaries(chosen["model"]) if chosen is not None else []
    return ModelTrail(models, chosen, committed, summaries)


def controls(trail: ModelTrail, query: Query) -> list[Control]:
    """Returns the page's controls."""
    options = {model["model"]: words.short(model["model"], 40) for model in trail.models}
    return [Control("model", "Model", options, trail.chosen["model"] if trail.chosen else None)]


def view(trail: ModelTrail, query: Query) -> list[Element]:
    """Returns the page's body."""
    if not trail.models:
        return [c.card("Model trail", c.empty("There is no model yet. Make a first one: fedmq seed --package DIR"))]
    wanted = query.get("model")
    parts: list[Element] = [c.card("Model trail", _tree(trail))]
    if trail.chosen is None:
        return [*parts, c.card("Model", c.empty(f"There is no model {wanted!r} in the records."))]
    return [*parts, _details(trail.chosen, trail.round, trail.summaries)]


# -- the tree -------------------------------------------------------------------------------------------------------


def lanes(models: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Returns each model's distance from its seed, and its lane, which is that of its parent for a first child."""
    known = {model["model"] for model in models}
    children: dict[str | None, list[str]] = {}
    for model in sorted(models, key=lambda model: (model["created_at"], model["model"])):
        parent = model["parent"] if model["parent"] in known else None
        children.setdefault(parent, []).append(model["model"])
    places: dict[str, tuple[int, int]] = {}
    free = 0
    for root in children.get(None, []):
        waiting = [(root, 0, free)]
        free += 1
        while waiting:
            name, depth, lane = waiting.pop()
            places[name] = (depth, lane)
            following = children.get(name, [])
            for other in following[1:]:
                waiting.append((other, depth + 1, free))
                free += 1
            waiting += [(first, depth + 1, lane) for first in following[:1]]
    return places


def _tree(trail: ModelTrail) -> Element:
    places = lanes(trail.models)
    links = [(places[model["parent"]], places[model["model"]]) for model in trail.models if model["parent"] in places]
    chosen = trail.chosen["model"] if trail.chosen else None
    traces = [edges(links)]
    for is_seed, name, colour in ((True, "seed", SERIES[1]), (False, "model", SERIES[0])):
        members = [model for model in trail.models if (model["session"] is None) == is_seed]
        if not members:
            continue
        at = [places[model["model"]] for model in members]
        symbol = "diamond" if is_seed else "circle"
        marker = {
            "size": [14 if model["model"] == chosen else 8 for model in members],
            "color": colour,
            "symbol": [symbol if is_kept(model) else f"{symbol}-open" for model in members],
        }
        ids = [model["model"] for model in members]
        x, y = [place[0] for place in at], [place[1] for place in at]
        traces.append(spots(name, x, y, "%{customdata}", customdata=ids, marker=marker))
    depth = max(place[0] for place in places.values())
    wide = 1 + max(place[1] for place in places.values())
    margin = 0.5 + depth / 60
    shape = figure(
        traces,
        x="rounds from the seed",
        yaxis={"visible": False, "range": [wide - 0.5, -0.5]},
        xaxis={"range": [-margin, depth + margin]},
    )
    summary = (
        f"{words.plural(len(trail.models), 'model')} in {words.plural(wide, 'line')}, up to "
        f"{words.plural(depth, 'round')} deep. Click one to see it."
    )
    return c.graph("trail", shape, summary, min(420, 130 + 40 * wide))


# -- one model ------------------------------------------------------------------------------------------------------


def _details(model: Document, committed: Document | None, summaries: Sequence[Document]) -> Element:
    name, ref = model["model"], model["ref"]
    uses = [c.command(f"fedmq model verify {name}")]
    if is_kept(model):
        uses.append(c.command(f"fedmq model get {name} --format safetensors --output model.safetensors"))
        uses.append(c.command(f"fedmq start --set seed={name}"))
    else:
        uses.append(c.empty("Its bytes were let go: the session's retention.keep_models does not cover it."))
    described = c.facts(
        c.fact(
            "Session", c.link(model["session"], f"/?session={model['session']}") if model["session"] else "none: a seed"
        ),
        c.fact("Round", model["round"]),
        c.fact(
            "Parent",
            c.link(words.short(model["parent"]), f"/models?model={model['parent']}") if model["parent"] else "–",
        ),
        c.fact("Size", words.size(ref["size"]), "" if is_kept(model) else "let go"),
        c.fact("Made", c.moment(model["created_at"], "date")),
        c.fact("Accepted", committed["counts"].get("accepted", 0) if committed else "–", "updates"),
        c.fact("Total weight", words.number(committed["total_weight"]) if committed else "–"),
    )
    return c.card(
        words.short(name, 40),
        described,
        *_metrics(model, summaries),
        html.H3("Where it is"),
        c.table(
            [c.Column("What"), c.Column("Key"), c.Column("sha256")],
            [["model", html.Code(ref["key"]), html.Code(ref["sha256"])], *_ledger(model)],
            "Blobs of this model",
        ),
        html.H3("Verify, download, start from it"),
        *uses,
        html.H3("Load it"),
        *(
            html.Div([html.H4(framework), html.Pre(html.Code(text), tabIndex=0)])
            for framework, text in SNIPPETS.items()
        ),
        id="model",
    )


def _ledger(model: Document) -> list[list[Element]]:
    ledger = model["ledger"]
    return [["ledger", html.Code(ledger["key"]), html.Code(ledger["sha256"])]] if ledger else []


def _metrics(model: Document, summaries: Sequence[Document]) -> list[Element]:
    """Returns a table for the session that made the model, and one for each session that started from it."""
    tables = [_table(model["metrics"], "Metrics of this model")] if model["metrics"] else []
    for summary in summaries:
        name = summary["session"]
        tables.append(html.H3(["In session ", c.link(name, f"/?session={name}"), ", which started from it"]))
        tables.append(_table(summary["metrics"], f"Metrics of this model in session {name}"))
    return tables or [c.empty("Nobody has validated this model.")]


def _table(metrics: Mapping[str, Any], caption: str) -> Element:
    columns = [c.Column("Metric"), *(c.Column(name, True) for name in ("mean", "min", "median", "max", "n"))]
    rows = [
        [name, *(words.number(metrics[name][key]) for key in ("mean", "min", "median", "max", "n"))]
        for name in words.metric_names([metrics])
    ]
    return c.table(columns, rows, caption)


def clicked(graph: str, point: Point) -> Changes:
    """Returns how a click on a plot changes the address."""
    return {"model": point["customdata"]} if graph == "trail" and point.get("customdata") else {}


PAGE = Page("/models", "Models", "rounds", read, controls, view, clicked)
