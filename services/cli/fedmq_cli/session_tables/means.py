"""Means over clients as the verbs on sessions show them: what is missing from one is stated. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmq_cli.output import part_of, shown

STEPS = {"update.accepted": ("train", "training/"), "model.validated": ("validate", "")}
"""Events with the metrics of one client: the trainer's method that returned them, and what its means begin with."""
_COMPOSED: Mapping[type[Any], str] = {list: "a list", dict: "a map"}


def asked_by_round(rounds: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Returns the number of clients that each committed round asked."""
    return {row["round"]: sum(row["counts"].values()) for row in rounds}


def counts_of(row: Mapping[str, Any], name: str, asked: Mapping[int, int]) -> tuple[int, int] | None:
    """Returns the number of values in a mean of a model's row, and of how many clients values were expected.

    Expected are those of all clients that the round asked. The clients of round 1 score the first model. None if the row
    has no such mean, if the round is not committed, and for `test/…`: how many evaluators there are is not known.
    """
    of = asked.get(row.get("round") or 1)
    if of is None or name.startswith("test/") or f"{name} n" not in row:
        return None
    return row[f"{name} n"], of


def marked(mean: Any, counts: tuple[int, int] | None) -> Any:
    """Returns a mean for a table: a text with its mark, `12.4307 (2 of 4)`, if it has fewer values than expected."""
    part = part_of(*counts) if counts else ""
    return f"{shown(mean)} ({part})" if part else mean


def outcomes_of(rounds: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the outcomes other than `accepted` that some client had in some round."""
    return sorted({name for row in rounds for name, count in row["counts"].items() if count and name != "accepted"})


def accepted_of(row: Mapping[str, Any]) -> Any:
    """Returns the number of accepted updates of a round: as `2 of 3` if the round asked more clients."""
    asked = sum(row["counts"].values())
    return part_of(row["accepted"], asked) or row["accepted"]


def without_mean(events: Iterable[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the metrics without a mean, each with its step, its clients, and what these `returned`.

    That is no finite number, or a list or map, which is recorded for each client and has no mean.
    Of each step, the newest round counts that `events` and `metrics` have. Tests by evaluators are left out.
    """
    rows = {row["round"]: row for row in metrics}
    found: dict[str, dict[str, Any]] = {}
    newest: dict[str, int] = {}
    own = [each for each in events if each["name"] in STEPS and each["client"] and each["data"].get("scope") != "test"]
    for event in sorted(own, key=lambda each: (-(each["round"] or 0), each["client"])):
        step, prefix = STEPS[event["name"]]
        number = event["round"] or 0
        if number not in rows or newest.setdefault(step, number) != number:
            continue
        for metric, value in (event["data"].get("metrics") or {}).items():
            name = f"{prefix}{metric}"
            returned = "no finite number" if value is None else _COMPOSED.get(type(value))
            if returned is not None and name not in rows[number]:
                entry = found.setdefault(name, {"metric": name, "step": step, "returned": returned, "clients": []})
                entry["clients"].append(event["client"])
    return [found[name] for name in sorted(found)]
