"""A round's new model: made, recorded, then reported. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.effects import PublishEvent
from fedmq_reducer import retention
from fedmq_reducer.operations import Aggregate, Insert, Put, TellLedger
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import Attempt
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.documents import model_document, participation_key, round_document, round_key
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_schemas import records
from fedmq_schemas.messages import BlobRef


async def commit(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Makes a model of the attempt's partials, and records the round: the commit point. If the round is recorded already,
    by this reducer or by one before it, that record counts. Raises FedMQError if no model can be made."""
    parent, lineage = session.model, session.lineage
    session.stage = Stage.COMMITTING
    aggregate = Aggregate(
        session.name, session.round, attempt.number, parent, lineage.optimizer, lineage.exponents,
        session.policy.strategy, attempt.partials(),
    )  # fmt: skip
    aggregated = await context.ask(aggregate)

    document = round_document(session, aggregate, aggregated, context.term, context.now)
    recording = Insert(records.ROUNDS, round_key(session), document, context.term)
    committed = await context.ask(recording) or document

    context.emit(*attempt.take_completed_by())
    report_round(context, committed)
    session.adopt_round(committed)
    windows.settle_older(context, session, parent)
    session.deferred = [record_participation(context, committed), *retention.after_commit(session, context.term)]


def report_round(context: ReducerContext, committed: Mapping[str, Any]) -> None:
    """Records the new model and publishes the event of a recorded round. May be done again: the model's key and the event's
    id derive from the round."""
    document = model_document(committed)
    names = ("attempt", "seconds", "counts", "metrics", "total_weight")
    data = {"model": document["model"], "sha256": committed["model"]["sha256"]}
    data |= {name: committed[name] for name in names}
    session, number = committed["session"], committed["round"]
    context.emit(
        Put(records.MODELS, document["model"], document, context.term),
        PublishEvent("round.committed", session, number, data=data, id=f"committed-{session}-{number}"),
    )


def record_participation(context: ReducerContext, committed: Mapping[str, Any]) -> TellLedger:
    """Returns the effect that records a round's ledger in columns. May be done again."""
    ledger = BlobRef.model_validate(committed["ledger"])
    return TellLedger(committed["session"], ledger, participation_key(committed), context.term)
