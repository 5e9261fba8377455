"""Records of models, of requests to validate them, of their validations, and of summaries of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef, Frozen, Validation
from fedmq_schemas.records.base import Change, Record
from fedmq_schemas.records.rounds import RoundRecord
from fedmq_schemas.records.tables import MODELS, SUMMARIES, VALIDATIONS, WINDOWS


class ModelRecord(Record):
    """A committed model or a seed.

    A seed has `round` 0 and no session. `metrics` summarizes the validations in the session that made the model; no other
    session changes it, and a seed has none (except from older versions). `kept` says whether the model's bytes are to be
    kept. If not, `deleted` says whether they are deleted already.
    """

    table = MODELS
    identity = "model"
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
        """Returns the record of a committed round's model, without validations."""
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


class ModelChange(Change):
    """A change of a model's record: the summary of its validations, or a step of its deletion."""

    metrics: dict[str, Any] = Field(default_factory=dict)
    kept: bool = True
    deleted: bool | None = None


def is_kept(model: Mapping[str, Any]) -> bool:
    """Returns whether the bytes of a model are to be kept, by its document."""
    return model.get("kept", True) is True


class ValidationRequest(Frozen):
    """One plan to validate a model: its combiner, its clients, and when it was made, in UTC seconds since 1970."""

    combiner: str
    clients: tuple[str, ...]
    at: float


class WindowRecord(Record):
    """Whom a session has requested to validate the model of `round`: 0 is the model that it started from.

    A client that has moved, or that a later reducer has requested again, is in several `requests`. The session waits for
    answers until `closes_at`, UTC seconds since 1970. `absent` lists the clients whose absence was reported. Sessions of
    0.2.0 have no such records.
    """

    table = WINDOWS

    session: str
    round: int
    model: str
    requests: tuple[ValidationRequest, ...]
    closes_at: float
    absent: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key in its table."""
        return keys.round_record(self.session, self.round)


def requested_of(requests: Iterable[ValidationRequest]) -> dict[str, tuple[str, float]]:
    """Returns for each client the combiner of its last request, and the time of its first one in UTC seconds since 1970."""
    found: dict[str, tuple[str, float]] = {}
    for request in requests:
        for client in request.clients:
            _, at = found.get(client, ("", request.at))
            found[client] = request.combiner, min(at, request.at)
    return found


class ValidationRecord(Record):
    """The metrics of one model at one client.

    `scope` is `client` for the client's own data and `test` for an evaluator's test set. `round` is the round that made the
    model, 0 for a seed. `weight` is the number of examples, None if unknown.
    """

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
        """Returns the record of a message. A train plan of round r validates the model of round r - 1."""
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
        """The key in its table."""
        return keys.validation_record(self.session, self.model, self.client)


class SummaryRecord(Record):
    """The summary of a session's validations of the model that it started from, which it did not make.

    Another session made this model, or a person uploaded it. `round` is 0: the session's first round starts from it.
    """

    table = SUMMARIES

    session: str
    model: str
    round: int = 0
    metrics: dict[str, Any]
    at: float

    @property
    def key(self) -> str:
        """The key in its table."""
        return keys.summary_record(self.session, self.model)
