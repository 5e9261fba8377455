"""What a session no longer keeps after each round, and after its end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.runtime.effects import Effect
from fedmq_reducer.retention import Delete, ExpireModels, Sweep, SweepOrphans
from fedmq_reducer.selection import has_own_tensors
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.policy import ModelSelection, Retention


def after_commit(session: Session, term: int) -> list[Effect]:
    """Returns the effects that delete what the session no longer keeps after its newest committed round."""
    retention, newest = session.policy.retention, session.round - 1
    effects: list[Effect] = []
    if isinstance(retention.keep_updates, int) and newest - retention.keep_updates >= 1:
        effects.append(Sweep(session.name, newest - retention.keep_updates))
    if newest > 1:  # a round later: most URLs of its tickets have expired
        effects.append(SweepOrphans(session.name, newest - 1))
    if isinstance(retention.keep_models, int) and newest > 2:
        is_open = frozenset(session.validations.windows)
        select = session.policy.select
        effects += [
            ExpireModels(
                session.name,
                newest,
                newest - 2,
                retention.keep_models,
                select,
                term,
                is_open,
                own=bool(session.policy.tensors.local),
            ),
            Delete(term),
        ]
    return effects


def after_end(session: str, policy: Mapping[str, Any], newest: int, term: int) -> list[Effect]:
    """Returns the effects that delete what a session no longer keeps after its end.

    No task is open any more then, and the best model is known. `policy`: the recorded one. It may be of a version whose
    other sections this version does not read.
    """
    retention, orphans = Retention.model_validate(policy["retention"]), SweepOrphans(session)
    if not isinstance(retention.keep_models, int) or newest < 2:
        return [orphans]
    select = ModelSelection.model_validate(policy["select"])
    own = has_own_tensors(policy)
    expire = ExpireModels(session, newest, newest, retention.keep_models, select, term, own=own)
    return [orphans, expire, Delete(term, session)]
