"""Validation windows: which models are validated by whom, and until when. Pure.

By the policy's `validation`, clients validate a model when they receive it to train on it, or each model in plans of its
own. Evaluators always get plans of their own, and so do all clients for the last model. Rounds don't wait for validations,
unless a validation decides whether a round follows; a session is finished when its last window has closed.
"""

from __future__ import annotations

from fedmq.metrics import Summary, summarize_validations
from fedmq.runtime.effects import Ack, PublishEvent, Received
from fedmq_reducer.operations import ChangeModel, RecordLateValidation, RecordSummary, RecordValidations
from fedmq_reducer.sessions.attempt import PlannedPart, group_by_combiner
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.planning import publish_plan
from fedmq_reducer.sessions.session import Session, Stage, Window
from fedmq_schemas import messages
from fedmq_schemas.keys import model_id, validated_event
from fedmq_schemas.messages import BlobRef, PlanKey
from fedmq_schemas.records import ModelChange, SummaryRecord, ValidationRecord


def ask(context: ReducerContext, session: Session) -> None:
    """Publishes plans for those who are to validate the newest model, have not, and have no plan for it at their
    combiner."""
    number = session.round - 1
    window = session.validations.windows.get(number) or Window(session.model, 0.0)
    _plan(context, session, number, window, _wanted(context, session, number))


def _plan(context: ReducerContext, session: Session, number: int, window: Window, clients: set[str]) -> None:
    combiner_of = {name: context.members.clients[name].combiner for name in clients - _answered(session, window)}
    new = [name for name, combiner in sorted(combiner_of.items()) if not window.has_asked(name, combiner)]
    if not new:
        return
    session.validations.windows[number] = window
    window.closes_at = context.now.wall + session.policy.validation_timeout
    first = len(window.parts)
    for part, (combiner, group) in enumerate(group_by_combiner(new, combiner_of).items(), first):
        # A reducer that takes over does not know its predecessor's validation plans. The term, in the place of an attempt,
        # keeps the two sets apart.
        key = PlanKey(session=session.name, round=number, attempt=max(1, context.term), part=part, action="validate")
        window.parts.append(PlannedPart(key, combiner, group))
    for each in window.parts[first:]:
        _publish(context, session, window, each)


def _publish(context: ReducerContext, session: Session, window: Window, part: PlannedPart) -> None:
    publish_plan(context, session, part, window.model, max(0.0, window.closes_at - context.now.wall))


def publish_open_plans(context: ReducerContext, session: Session, combiner: str) -> None:
    """Publishes what is still open for a combiner that has said hello, and plans for clients that have moved to it."""
    for number, window in list(session.validations.windows.items()):
        if window.closes_at <= context.now.wall:
            continue
        for part in window.parts:
            if part.combiner == combiner and not set(part.clients) <= _answered(session, window):
                _publish(context, session, window, part)
        _plan(context, session, number, window, window.asked & _wanted(context, session, number))


def reopen(session: Session, number: int, model: BlobRef, since: float) -> None:
    """Opens the window of the model of round `number` as it was `since`, but without plans: whom the reducer before this one
    has asked is not known."""
    closes_at = since + session.policy.validation_timeout
    session.validations.windows[number] = Window(model, closes_at)


def ask_again(context: ReducerContext, session: Session) -> None:
    """Publishes plans for all whose answer may still be on its way. For the newest model only if its round has begun: before
    that, nobody was asked."""
    for number, window in list(session.validations.windows.items()):
        is_newest = number == session.round - 1
        if (is_newest and session.attempt is not None) or (not is_newest and window.closes_at > context.now.wall):
            _plan(context, session, number, window, _wanted(context, session, number))


def _wanted(context: ReducerContext, session: Session, number: int) -> set[str]:
    """Returns the evaluators; the clients too if the policy says so, or if their metric decides whether a round follows."""
    clients, evaluators = _present(context, session)
    is_newest, validation = number == session.round - 1, session.policy.validation
    if validation == "separate" or (validation == "with_training" and is_newest and session.is_last):
        return clients | evaluators
    is_scored = is_newest and session.stage is Stage.SCORING
    return evaluators | _scorers(context, session) if is_scored else evaluators


def _scorers(context: ReducerContext, session: Session) -> set[str]:
    """Returns those who have the metric that counts."""
    clients, evaluators = _present(context, session)
    score = session.ending.score
    metric = score.metric if score is not None else session.policy.select.metric
    return evaluators if metric.startswith("test/") or (not metric and evaluators) else clients


def _present(context: ReducerContext, session: Session) -> tuple[set[str], set[str]]:
    """Returns the clients and the evaluators that are there to validate."""
    everybody = session.chosen(context.members.eligible("validate"))
    evaluators = {client.name for client in everybody if "train" not in client.tasks}
    return {client.name for client in everybody} - evaluators, evaluators


def missing(context: ReducerContext, session: Session, number: int) -> set[str]:
    """Returns who was asked, is there and has not answered. While the newest model is scored, only those who have the
    metric that counts."""
    window = session.validations.windows.get(number)
    if window is None:
        return set()
    is_scored = session.stage is Stage.SCORING and number == session.round - 1
    awaited = _scorers(context, session) if is_scored else _wanted(context, session, number)
    return awaited & window.asked - _answered(session, window)


def is_any_missing(context: ReducerContext, session: Session) -> bool:
    return any(missing(context, session, number) for number in session.validations.windows)


def _answered(session: Session, window: Window) -> set[str]:
    return set(session.validations.of(window.model))


def receive(context: ReducerContext, session: Session | None, event: Received, body: messages.Validation) -> None:
    """Records a validation. While its session is open, the validation counts and replaces an earlier one. Of an ended
    session the first one stays."""
    record = ValidationRecord.of(body, event.envelope.sender, context.now.wall)
    model, client = record.model, record.client
    recording: RecordValidations | RecordLateValidation
    if session is not None:
        session.validations.results.setdefault(model, {})[client] = record
        recording = RecordValidations((record,), (event.tag,), context.term)
    else:
        recording = RecordLateValidation(record, event.tag, context.term)
    data = {
        "model": model,
        "scope": record.scope,
        "weight": record.weight,
        "metrics": record.metrics,
        "reason": record.reason,
    }
    event_id = validated_event(record.session, model, client)
    context.emit(
        recording,
        PublishEvent("model.validated", record.session, record.round, client, data=data, id=event_id),
        Ack((event.tag,)),
    )


def summary(session: Session, model: BlobRef) -> Summary:
    """Returns what the session knows of a model's metrics; those of evaluators are prefixed `test/`."""
    results = session.validations.of(model).values()
    return summarize_validations((each.scope, each.weight, each.metrics) for each in results)


def _record_summary(context: ReducerContext, session: Session, number: int, model: BlobRef) -> None:
    """Records the metrics of the model of round `number`, if there are any. The model of round 0 is not the session's own:
    its record may belong to a session that has ended, so this session's summary is a record of its own."""
    metrics = summary(session, model)
    if not metrics:
        return
    name = model_id(model.key)
    if number == 0:
        record = SummaryRecord(session=session.name, model=name, metrics=metrics, at=context.now.wall)
        context.emit(RecordSummary(record, context.term))
    else:
        context.emit(ChangeModel(name, ModelChange(metrics=metrics), context.term))


def settle_older(context: ReducerContext, session: Session, parent: BlobRef) -> None:
    """After a commit: records the metrics of the model's parent, and closes the windows of older models for which nobody is
    waited for any more, or whose time is over."""
    windows = session.validations.windows
    _record_summary(context, session, session.round - 2, parent)
    for number, window in list(windows.items()):
        is_over = window.closes_at <= context.now.wall or not missing(context, session, number)
        if number < session.round - 2 and is_over:
            _record_summary(context, session, number, window.model)
            del windows[number]
    kept = {model_id(model.key) for model in (parent, session.model, *(window.model for window in windows.values()))}
    for forgotten in session.validations.results.keys() - kept:
        del session.validations.results[forgotten]


def record_summaries(context: ReducerContext, session: Session) -> None:
    """Records the metrics of all models that are still being validated, and of the newest one."""
    models = {number: window.model for number, window in session.validations.windows.items()}
    if session.lineage.model is not None:
        models[session.round - 1] = session.lineage.model
    for number, model in models.items():
        _record_summary(context, session, number, model)
