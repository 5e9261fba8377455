"""The step that makes a round's model, records the round, and reports it. Pure."""

from __future__ import annotations

from fedmq.errors import FedMQError
from fedmq.runtime.effects import PublishEvent
from fedmq_reducer.operations import Aggregate, RecordModel, RecordParticipation, RecordRound
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import Attempt
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.recording import round_record
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_reducer.sessions.steps import expiring
from fedmq_schemas.records import ModelRecord, RoundRecord


async def commit(context: ReducerContext, session: Session, attempt: Attempt) -> None:
    """Makes a model of the attempt's partials, and records the round: the commit point.

    If the round is recorded already, by this reducer or an earlier one, that record counts. Raises FedMQError if no model
    can be made.
    """
    parent, lineage = session.model, session.lineage
    session.stage = Stage.COMMITTING
    aggregate = Aggregate(
        session=session.name,
        round=session.round,
        attempt=attempt.number,
        model=parent,
        optimizer=lineage.optimizer,
        exponents=lineage.exponents,
        strategy=session.policy.strategy,
        partials=attempt.partials(),
        weighting=session.policy.weighting,
        max_weight=session.policy.max_weight,
    )
    aggregated = await context.ask(aggregate)

    record = round_record(session, aggregate, aggregated, context.term, context.now)
    committed = await _record_round(context, record)

    context.emit(*attempt.take_completed_by())
    report_round(context, committed)
    session.adopt_round(committed)
    windows.settle_older(context, session, parent)
    session.deferred = [record_participation(committed, context.term), *expiring.after_commit(session, context.term)]


async def _record_round(context: ReducerContext, record: RoundRecord) -> RoundRecord:
    """Returns the round as it is recorded: without metrics if the store refuses these, as they are named by clients."""
    try:
        return await context.ask(RecordRound(record, context.term)) or record
    except FedMQError as error:
        if not record.metrics:
            raise
        data = {"reason": f"the metrics of round {record.round} are not recorded: {error.reason}"}
        context.emit(PublishEvent("actor.error", record.session, record.round, data=data))
    bare = record.model_copy(update={"metrics": {}})
    return await context.ask(RecordRound(bare, context.term)) or bare


def report_round(context: ReducerContext, committed: RoundRecord) -> None:
    """Records a round's model and publishes the event. May be done again: key and id derive from the round."""
    model = ModelRecord.of(committed)
    data = {
        "model": model.model,
        "sha256": committed.model.sha256,
        "attempt": committed.attempt,
        "seconds": committed.seconds,
        **({"resumed_after": committed.resumed_after} if committed.resumed_after else {}),
        "counts": committed.counts,
        "metrics": committed.metrics,
        "total_weight": committed.total_weight,
    }
    event_id = f"committed-{committed.session}-{committed.round}"
    context.emit(
        RecordModel(model, context.term),
        PublishEvent("round.committed", committed.session, committed.round, data=data, id=event_id),
    )


def record_participation(committed: RoundRecord, term: int) -> RecordParticipation:
    """Returns the effect that records a round's ledger in columns. May be done again."""
    return RecordParticipation(committed.session, committed.ledger, term)
