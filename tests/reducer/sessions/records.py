"""What effects record, whatever the effects are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmq.effects import Effect, Perform
from fedmq_reducer.operations import Change, Insert, Put, PutMany


def written(effects: Sequence[Effect], table: str) -> list[dict[str, Any]]:
    """Returns what is written to documents of a table, in order: whole documents, or the fields that change."""
    found: list[dict[str, Any]] = []
    for effect in effects:
        match effect:
            case Insert(to, _, document) | Put(to, _, document) | Change(to, _, document) if to == table:
                found.append(dict(document))
            case PutMany(to, items) if to == table:
                found += [dict(document) for _, document in items]
    return found


def asked(effects: Sequence[Effect], table: str) -> Perform:
    """Returns the one effect that records a document of a table and reports which one is there."""
    [question] = [effect for effect in effects if isinstance(effect, Insert) and effect.table == table]
    return question
