"""Retention: what of a session's blobs goes once a round is committed, and when the session has ended. Pure.

A model goes in two steps, so that whoever takes over can finish the second: its record says that its bytes are no longer
kept, then they are deleted and the record says that they are. Models stay that a client may be working on: the newest two,
and those whose validation is under way, as it may make them the best one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.effects import Effect
from fedmq.errors import Gone, NotFound
from fedmq_reducer.operations import Delete, ExpireModels, Sweep
from fedmq_reducer.selection import best_model
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.policy import Retention, Select
from fedmq_schemas.records import is_kept


def after_commit(session: Session, term: int) -> list[Effect]:
    """What the newest committed round makes superfluous."""
    retention, newest = session.policy.retention, session.round - 1
    effects: list[Effect] = []
    if isinstance(retention.keep_updates, int) and newest - retention.keep_updates >= 1:
        effects.append(Sweep(session.name, newest - retention.keep_updates))
    if isinstance(retention.keep_models, int) and newest > 2:
        is_open = frozenset(session.validations.windows)
        select = session.policy.select
        effects += [
            ExpireModels(session.name, newest, newest - 2, retention.keep_models, select, term, is_open),
            Delete(term),
        ]
    return effects


def after_end(session: str, policy: Mapping[str, Any], newest: int, term: int) -> list[Effect]:
    """No task is open any more, and what is the best model is known. `policy`: as it is recorded."""
    retention = Retention.model_validate(policy["retention"])
    if not isinstance(retention.keep_models, int) or newest < 2:
        return []
    select = Select.model_validate(policy["select"])
    return [ExpireModels(session, newest, newest, retention.keep_models, select, term), Delete(term, session)]


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
