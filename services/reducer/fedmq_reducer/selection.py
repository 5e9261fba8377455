"""Selects the best model of a session, and decides when its policy stops it early. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.errors import NotFound
from fedmq.metrics import grows
from fedmq_schemas.policy import EarlyStopping, ModelSelection
from fedmq_schemas.records import Score, is_kept

PREFERRED = ("test/accuracy", "accuracy", "test/loss", "loss")


def metric_of(names: Iterable[str], wanted: str | None, own: bool = False) -> str:
    """Returns the metric that counts, or an empty text if there are no names.

    It is the wanted one, else the first of test/accuracy, accuracy, test/loss and loss, else an evaluator's, else any.
    Those whose names do not say whether they grow with quality, such as a duration, count only if there are no others.
    With `own`, an evaluator's metrics count only if clients have none.
    """
    known = sorted(names)
    if own:
        known = [name for name in known if not name.startswith("test/")] or known
    known = [name for name in known if grows(name) is not None] or known
    usual = [name for name in PREFERRED if name in known]
    return wanted or (usual or [name for name in known if name.startswith("test/")] or known or [""])[0]


def mode_of(metric: str, wanted: str | None) -> str:
    """Returns `max` or `min`: the wanted mode, else `max` for metrics whose name says that they grow with quality."""
    return wanted or ("max" if grows(metric) else "min")


def has_own_tensors(policy: Mapping[str, Any]) -> bool:
    """Returns whether a session with this recorded policy keeps tensors at its clients.

    An evaluator then scores models with the seed's tensors, which no client has. So clients' own metrics come first.
    """
    return bool(policy.get("tensors", {}).get("local"))


def best_model(
    models: Iterable[Mapping[str, Any]], metric: str | None, mode: str | None, own: bool = False
) -> dict[str, Any]:
    """Returns the record of the model with the best mean of the metric, and `best`: metric, mode and value.

    `own`: as in `metric_of`. Of equal models the earliest is best. Seeds and models that are no longer kept do not
    compete. Raises NotFound.
    """
    made = [dict(model) for model in models if model["round"] > 0 and is_kept(model)]
    names = sorted({name for model in made for name in model["metrics"]})
    metric = metric_of(names, metric, own)
    scored = [(model["metrics"][metric]["mean"], model) for model in made if metric in model["metrics"]]
    if not scored:
        missing = f"no model has a metric{f' {metric!r}' if metric else ''}"
        raise NotFound(missing + (f": there are {', '.join(names)}" if names else ""))
    mode = mode_of(metric, mode)
    sign = 1 if mode == "max" else -1
    value, model = max(scored, key=lambda pair: (sign * pair[0], -pair[1]["round"]))
    return {**model, "best": {"metric": metric, "mode": mode, "value": value}}


def next_score(
    score: Score | None,
    number: int,
    summary: Mapping[str, Mapping[str, float]],
    select: ModelSelection,
    min_delta: float,
    own: bool = False,
) -> Score:
    """Returns the score after round `number`. The metric that counts and its mode are chosen once, for the first score.

    `own`: as in `metric_of`.
    """
    if score is not None and score.metric:
        metric, mode = score.metric, score.mode
    else:
        metric = metric_of(summary, select.metric, own)
        mode = mode_of(metric, select.mode)
    value = summary[metric]["mean"] if metric in summary else None
    best, best_round = (score.best, score.best_round) if score is not None else (None, 0)
    if value is not None and (best is None or _gain(value, best, mode) > min_delta):
        best, best_round = value, number
    return Score(round=number, value=value, metric=metric, mode=mode, best=best, best_round=best_round)


def reason_to_stop(score: Score, stop: EarlyStopping) -> str:
    """Returns why no further round is to be made, or an empty text."""
    name = score.metric or "any metric"
    if stop.target is not None and score.value is not None and _gain(score.value, stop.target, score.mode) >= 0:
        return f"{name} has reached {stop.target:g}: {score.value:g} in round {score.round}"
    if stop.patience is not None and score.round - score.best_round >= stop.patience:
        rounds = f"{stop.patience} round{'s' if stop.patience > 1 else ''}"
        if score.best is None:
            return f"nobody gave a value of {name} in {rounds}"
        better = f" by more than {stop.min_delta:g}" if stop.min_delta else ""
        return f"{name} has not become better than {score.best:g} (round {score.best_round}){better} in {rounds}"
    return ""


def _gain(value: float, than: float, mode: str) -> float:
    return value - than if mode == "max" else than - value
