"""Filters with which the templates write times and labels. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup


def moment(at: float | None, form: str = "time") -> Markup:
    """Returns a `<time>` in UTC, which the page's script shows in the viewer's time zone. `form`: time, date or left."""
    if at is None:
        return Markup("–")
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    shown = f"{iso[:10]} {iso[11:16]} UTC" if form == "date" else f"{iso[11:19]} UTC"
    return Markup('<time datetime="{}" data-form="{}" title="{}">{}</time>').format(iso, form, iso, shown)


def labels(pairs: dict[str, str]) -> str:
    """Returns labels as one text, sorted by name."""
    return ", ".join(f"{name} {value}" for name, value in sorted(pairs.items()))


FILTERS: dict[str, Callable[..., Any]] = {"moment": moment, "labels": labels}
