"""Two sessions side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TableRow = dict[str, Any]


def policy_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[TableRow]:
    """`key`, `one` and `other` for each dotted key of the policies (and the seed and random seed that were used) whose
    values differ; None where a session has none."""
    left, right = dict(_effective(one)), dict(_effective(other))
    keys = [*left, *(key for key in right if key not in left)]
    return [
        {"key": key, "one": left.get(key), "other": right.get(key)} for key in keys if left.get(key) != right.get(key)
    ]


def rounds_beside(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], first: str, second: str
) -> list[TableRow]:
    """A row a round with the means that both sessions know, a column for each metric and session."""
    left, right = ({row["round"]: row for row in rows} for rows in (one, other))
    names = [name for name in _metrics(one) if name in _metrics(other)]
    rows = []
    for number in sorted({*left, *right}):
        row: TableRow = {"round": number}
        for name in names:
            row[f"{name} {first}"] = left.get(number, {}).get(name)
            row[f"{name} {second}"] = right.get(number, {}).get(name)
        rows.append(row)
    return rows if names else []


def _effective(session: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    used = {"seed": session["seed"], "random_seed": session["random_seed"]}
    yield from _leaves({**session["policy"], **used}, "")


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if name not in ("round", "model") and " " not in name})
