"""Tables as files. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

Cell = str | int | float | None


def to_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """With a header line; what is not known is empty. No rows: an empty file.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writerow({name: _safe(name) for name in rows[0]})
    writer.writerows({name: _safe(cell) for name, cell in row.items()} for row in rows)
    return file.getvalue()


def to_json(rows: Sequence[Mapping[str, Cell]]) -> str:
    """A list of objects."""
    return json.dumps(list(rows), indent=1, allow_nan=False)


def _safe(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
