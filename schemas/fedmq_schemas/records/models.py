"""Records of models: the trail, their validations, and what a session found of the model that it started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef, Validation
from fedmq_schemas.records.base import Change, Record
from fedmq_schemas.records.rounds import RoundRecord
from fedmq_schemas.records.tables import MODELS, SUMMARIES, VALIDATIONS


class ModelRecord(Record):
    """A model of the trail. `round` is 0 for a seed, which has no session. `metrics`: the summary of its validations in the
    session that made it, which alone sets them; a seed has none (older versions have set them). `kept`: whether its bytes
    are to stay. Of a model that is not kept, `deleted` says whether the bytes are deleted."""

    table = MODELS
    later = frozenset({"deleted"})

    model: str
    ref: BlobRef
    base: BlobRef | None = None
    parent: str | None = None
    session: str | None = None
    round: int
    ledger: BlobRef | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    kept: bool = True
    created_at: float
    deleted: bool | None = None

    @classmethod
    def of(cls, committed: RoundRecord) -> ModelRecord:
        """Returns the record of a committed round's model, before anybody has validated it."""
        return cls(
            model=keys.model_id(committed.model.key),
            ref=committed.model,
            base=committed.base,
            parent=keys.model_id(committed.parent.key),
            session=committed.session,
            round=committed.round,
            ledger=committed.ledger,
            created_at=committed.committed_at,
        )

    @property
    def key(self) -> str:
        return self.model


class ModelChange(Change):
    """A change of a model's record: the summary of its validations in its own session, or a step of its deletion."""

    metrics: dict[str, Any] = Field(default_factory=dict)
    kept: bool = True
    deleted: bool | None = None


def is_kept(model: Mapping[str, Any]) -> bool:
    """Returns whether a model's bytes are to be there, by its document."""
    return model.get("kept", True) is True


class ValidationRecord(Record):
    """The metrics of one model at one client (`scope` client) or evaluator (`test`). `round` is the one that made the
    model, 0 for a seed. `weight` None: not known."""

    table = VALIDATIONS

    session: str
    round: int
    model: str
    client: str
    scope: Literal["client", "test"]
    weight: int | None
    metrics: dict[str, Any]
    reason: str = ""
    at: float

    @classmethod
    def of(cls, body: Validation, client: str, at: float) -> ValidationRecord:
        """Returns the record of a message. A train plan of round r carries the validation of the model of round r - 1."""
        plan = body.plan
        return cls(
            session=plan.session,
            round=plan.round if plan.action == "validate" else plan.round - 1,
            model=keys.model_id(body.model),
            client=client,
            scope=body.scope,
            weight=body.weight,
            metrics=body.metrics,
            reason=body.reason,
            at=at,
        )

    @property
    def key(self) -> str:
        return keys.validation_record(self.session, self.model, self.client)


class SummaryRecord(Record):
    """The summary of the validations of a session's first model, which this session did not make: another session has, or a
    person has uploaded it. `round` is 0, as the session's first round starts from it."""

    table = SUMMARIES

    session: str
    model: str
    round: int = 0
    metrics: dict[str, Any]
    at: float

    @property
    def key(self) -> str:
        return keys.summary_record(self.session, self.model)
