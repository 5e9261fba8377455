"""Which model of a session is best. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.errors import NotFound

PREFERRED = ("test/accuracy", "accuracy", "test/loss", "loss")
GROWS = ("accuracy", "auc", "f1", "precision", "recall", "r2", "score")


def best_model(models: Iterable[Mapping[str, Any]], metric: str | None, mode: str | None) -> dict[str, Any]:
    """The record of the model with the best mean of `metric`, the earliest of equal ones, with `best`: metric, mode and
    value. Without a metric: the first of test/accuracy, accuracy, test/loss, loss, else an evaluator's, else any.
    Without a mode: max for what is known to grow with quality, else min. Seeds don't compete. Raises NotFound."""
    made = [dict(model) for model in models if model["round"] > 0]
    names = sorted({name for model in made for name in model["metrics"]})
    if metric is None:
        usual = [name for name in PREFERRED if name in names]
        metric = (usual or [name for name in names if name.startswith("test/")] or names or ["accuracy"])[0]
    scored = [(model["metrics"][metric]["mean"], model) for model in made if metric in model["metrics"]]
    if not scored:
        raise NotFound(f"no model has a metric {metric!r}" + (f": there are {', '.join(names)}" if names else ""))
    mode = mode or ("max" if metric.rpartition("/")[2].lower() in GROWS else "min")
    sign = 1 if mode == "max" else -1
    value, model = max(scored, key=lambda pair: (sign * pair[0], -pair[1]["round"]))
    return {**model, "best": {"metric": metric, "mode": mode, "value": value}}
