"""Retention: what of a session's blobs goes once a round is committed, and when the session has ended. Pure.

A model goes in two steps, so that whoever takes over can finish the second: its record says that its bytes are no longer
kept, then they are deleted and the record says that they are. Models stay that a client may be working on: the newest two,
and those whose validation is under way, as it may make them the best one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.errors import Gone, NotFound
from fedmq_reducer.operations import ExpireModels
from fedmq_reducer.selection import best_model
from fedmq_schemas.records import is_kept


def check_kept(model: Mapping[str, Any]) -> None:
    """Raises Gone, by the model's record, if its bytes were let go."""
    if not is_kept(model):
        raise Gone(
            f"model {model['model']!r} was let go: its session keeps its best, its last and perhaps every so many-th one "
            f"(retention.keep_models). Record, metrics and ledger stay; `fedmq models --session {model['session']}` shows "
            "which models there are"
        )


def superfluous(models: Iterable[Mapping[str, Any]], rule: ExpireModels) -> list[str]:
    """The ids of a session's models that its retention lets go, of the records of those that it still has."""
    judged = [
        model for model in models if 1 <= model["round"] <= rule.up_to_round and model["round"] not in rule.open_rounds
    ]
    try:
        best = best_model(judged, rule.select.metric, rule.select.mode)["model"]
    except NotFound:  # nobody has scored any
        best = None
    return [
        model["model"]
        for model in judged
        if model["model"] != best
        and model["round"] != rule.newest
        and not (rule.every and model["round"] % rule.every == 0)
    ]
