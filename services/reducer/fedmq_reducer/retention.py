"""Retention: which blobs of a session are deleted after a round and after the session's end. Pure.

A model is deleted in two steps, so that a reducer that takes over can finish the second one. First the model's record says
that its bytes are no longer kept (`ExpireModels`). Then the bytes are deleted, and the record says so (`Delete`).

Models that a client may be working on are kept: the newest two, and those that are still being validated, as a validation
may make them the best model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.errors import Gone, NotFound
from fedmq.runtime.effects import Perform, Question
from fedmq.value import value
from fedmq_reducer.operations import Recorded
from fedmq_reducer.selection import best_model
from fedmq_schemas.policy import ModelSelection
from fedmq_schemas.records import is_kept


@value
class Sweep(Perform):
    """Deletes the uploads and partials of the session's rounds up to `up_to_round`."""

    session: str
    up_to_round: int

    independent = True

    @property
    def heavy(self) -> bool:
        """A session may have many uploads."""
        return True


@value
class SweepSession(Question[None]):
    """Deletes the uploads and partials of all rounds of an ended session. Ledgers, models and optimizer states are kept."""

    session: str

    @property
    def heavy(self) -> bool:
        """A session may have many uploads."""
        return True


@value
class SweepOrphans(Perform):
    """Deletes the uploads of a committed round that no ledger names; None: of all rounds of an ended session.

    A client may upload and publish no update, or upload once more while its URL is valid.
    """

    session: str
    round: int | None = None

    independent = True

    @property
    def heavy(self) -> bool:
        """A session may have many uploads."""
        return True


@value
class ExpireModels(Recorded):
    """Marks models of `session` up to round `up_to_round` for deletion.

    Keeps: the best model by `select` and `own` (see `metric_of`); every `every`-th model (0 keeps none); the model of
    round `newest`; those of `open_rounds`, which are still being validated.
    """

    session: str
    newest: int
    up_to_round: int
    every: int
    select: ModelSelection
    term: int
    open_rounds: frozenset[int] = frozenset()
    own: bool = False


@value
class Delete(Perform):
    """Deletes the bytes of marked models; with `session`, also those that were stored again after a lost lease."""

    term: int
    session: str | None = None

    independent = True

    @property
    def heavy(self) -> bool:
        """Many models may be marked."""
        return True


def check_kept(model: Mapping[str, Any]) -> None:
    """Raises Gone if the bytes of the model of this record are no longer kept."""
    if not is_kept(model):
        raise Gone(
            f"model {model['model']!r} was let go: its session keeps its best, its last and perhaps every so many-th one "
            f"(retention.keep_models). Record, metrics and ledger stay; `fedmq models --session {model['session']}` shows "
            "which models there are"
        )


def superfluous(models: Iterable[Mapping[str, Any]], rule: ExpireModels) -> list[str]:
    """Returns the ids of the models that `rule` deletes, from the records of a session's kept models."""
    judged = [
        model for model in models if 1 <= model["round"] <= rule.up_to_round and model["round"] not in rule.open_rounds
    ]
    try:
        best = best_model(judged, rule.select.metric, rule.select.mode, rule.own)["model"]
    except NotFound:  # no model has a score
        best = None
    return [
        model["model"]
        for model in judged
        if model["model"] != best
        and model["round"] != rule.newest
        and not (rule.every and model["round"] % rule.every == 0)
    ]
