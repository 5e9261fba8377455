"""Numbers, times and metrics in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.metrics import grows

_FIRST = ("accuracy", "auc", "f1", "mse", "mae", "loss")


def number(value: Any, digits: int = 4) -> str:
    """Returns a number with `digits` significant digits, or a dash for any other value."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return (
        f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
        if 1e-4 <= abs(value) < 1e7
        else f"{value:.3g}"
    )


def seconds(value: float | None) -> str:
    """Returns seconds in a suitable unit, or a dash if they are not known."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def size(value: float | None) -> str:
    """Returns a number of bytes in a suitable unit, or a dash if it is not known."""
    if value is None:
        return "–"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:,.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def plural(count: int, noun: str) -> str:
    """Returns a count with its noun: `1 round`, `2 rounds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def less_is_better(metric: str) -> bool:
    """Returns whether less of the metric is better: unless its name says that it grows, as for `select.mode`."""
    return not grows(metric)


def metric_names(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the metrics of the summaries, the best known first; those of evaluators (`test/…`) after the clients'."""
    found = {name for summary in summaries for name in summary}

    def rank(name: str) -> tuple[bool, int, str]:
        base = name.removeprefix("test/")
        return name != base, _FIRST.index(base) if base in _FIRST else len(_FIRST), base

    return sorted(found, key=rank)


def short(name: str, most: int = 28) -> str:
    """Returns a name of at most `most` characters, without its middle if it is longer."""
    return name if len(name) <= most else f"{name[: most - 13]}…{name[-12:]}"
