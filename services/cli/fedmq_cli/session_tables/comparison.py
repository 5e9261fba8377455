"""Two sessions beside each other: their policies, how each ended, and the means that both have. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmq.visible import visible
from fedmq_cli.output import TableRow
from fedmq_cli.session_tables.means import asked_by_round, counts_of, marked


@dataclass(frozen=True, slots=True)
class ComparedSession:
    """One side: the name that it is shown by, its record, tables, and the record of the model that it began with."""

    name: str
    record: TableRow
    rounds: Sequence[TableRow]
    metrics: Sequence[TableRow]
    seed: TableRow | None

    @property
    def names(self) -> list[str]:
        """The names of its metrics."""
        fields = ("round", "model")
        return sorted({name for row in self.metrics for name in row if name not in fields and " " not in name})

    @property
    def continued(self) -> dict[str, Any] | None:
        """The session that made the model that this session began with, and after which round; None for a seed."""
        seed = self.seed or {}
        if seed.get("session") is None:
            return None
        return {"session": seed["session"], "round": seed["round"], "model": seed["model"]}


def standing(side: ComparedSession, other: ComparedSession) -> dict[str, Any]:
    """Returns what a session's means depend on: its state, the session that it continues, metrics that `other` lacks."""
    return {
        "name": side.name,
        "session": side.record["session"],
        "state": side.record["state"],
        "reason": side.record["reason"],
        "continues": side.continued,
        "only_here": [name for name in side.names if name not in other.names],
    }


def standing_lines(standings: Sequence[TableRow]) -> Iterator[str]:
    """Yields a line for the state of each session, and for each that continues another one."""
    for each in standings:
        session = "" if each["name"] == each["session"] else f"session {each['session']} "
        reason = f": {each['reason']}" if each["reason"] else ""
        yield visible(f"{each['name']}: {session}{each['state']}{reason}")
        if each["continues"]:
            before = f"session {each['continues']['session']} after its round {each['continues']['round']}"
            yield visible(f"{each['name']} continues {before}; its rounds are counted from 1")


def policy_differences(one: TableRow, other: TableRow) -> list[dict[str, Any]]:
    """Returns a row for each dotted key whose value differs, seeds included. A missing key counts as None."""
    left, right = dict(_effective(one)), dict(_effective(other))
    keys = [*left, *(key for key in right if key not in left)]
    return [
        {"key": key, "one": left.get(key), "other": right.get(key)} for key in keys if left.get(key) != right.get(key)
    ]


def rounds_beside(one: ComparedSession, other: ComparedSession) -> list[dict[str, Any]]:
    """Returns a row for each round, with a column for each session and each metric that both sessions have.

    Beside a mean in column `NAME SESSION`, `NAME SESSION n` is the number of its values, and `NAME SESSION of` the number of
    clients that the round asked. An evaluator's mean has neither.
    """
    sides = [
        (side.name, {row["round"]: row for row in side.metrics}, asked_by_round(side.rounds)) for side in (one, other)
    ]
    names = [name for name in one.names if name in other.names]
    rows = []
    for number in sorted({number for _, found, _ in sides for number in found}):
        row: dict[str, Any] = {"round": number}
        for name in names:
            for title, found, asked in sides:
                row[f"{name} {title}"] = found.get(number, {}).get(name)
                counts = counts_of(found.get(number, {}), name, asked)
                if counts:
                    row |= {f"{name} {title} n": counts[0], f"{name} {title} of": counts[1]}
        rows.append(row)
    return rows if names else []


def marked_rounds(rows: Sequence[TableRow], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of `rounds_beside` for a table of these columns, with the marks of their means."""
    return [{column: marked(row[column], _counts(row, column)) for column in columns} for row in rows]


def _counts(row: TableRow, column: str) -> tuple[int, int] | None:
    return (row[f"{column} n"], row[f"{column} of"]) if f"{column} n" in row else None


def _effective(session: TableRow) -> Iterator[tuple[str, Any]]:
    used = {"seed": session["seed"], "random_seed": session["random_seed"]}
    yield from _leaves({**session["policy"], **used}, "")


def _leaves(values: TableRow, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
