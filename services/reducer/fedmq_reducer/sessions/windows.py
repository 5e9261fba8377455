"""Validation windows: decides which models are validated by whom, and until when. Pure.

The policy's `validation` says whether clients validate a model when they receive it for training, or by plans of its own.
Evaluators always get plans of their own, and so do all clients for the last model. Rounds do not wait for validations,
unless these decide whether a round follows. A session is finished when its last window has closed.
"""

from __future__ import annotations

from typing import Any

from fedmq.metrics import Summary, summarize_validations
from fedmq.reasons import absence, unanswered
from fedmq.runtime.effects import Ack, Apart, PublishEvent, Received
from fedmq_reducer.operations import ChangeModel, RecordLateValidation, RecordSummary, RecordValidations
from fedmq_reducer.sessions.attempt import PlannedPart, group_by_combiner, validation_key
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.planning import publish_plan
from fedmq_reducer.sessions.recording import RecordWindow, window_record
from fedmq_reducer.sessions.session import Session, Stage, Window
from fedmq_schemas import messages
from fedmq_schemas.keys import absent_event, model_id, validated_event
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.records import ModelChange, SummaryRecord, ValidationRecord, ValidationRequest, WindowRecord


def request(context: ReducerContext, session: Session) -> None:
    """Publishes plans for the newest model, for everybody who is to validate it and has neither a plan nor an answer."""
    number = session.round - 1
    window = session.validations.windows.get(number) or Window(session.model, 0.0)
    _plan(context, session, number, window, _wanted(context, session, number))


def _plan(context: ReducerContext, session: Session, number: int, window: Window, clients: set[str]) -> None:
    """Publishes plans for those of `clients` that have neither a plan nor an answer, once it is recorded who they are."""
    combiner_of = {name: context.members.clients[name].combiner for name in clients - _answered(session, window)}
    new = [name for name, combiner in sorted(combiner_of.items()) if not window.has_plan(name, combiner)]
    if not new:
        return
    session.validations.windows[number] = window
    window.closes_at = context.now.wall + session.policy.validation_timeout
    first = len(window.parts)
    for part, (combiner, group) in enumerate(group_by_combiner(new, combiner_of).items(), first):
        key = validation_key(session.name, number, context.term, part)
        window.parts.append(PlannedPart(key, combiner, group))
        window.requests.append(ValidationRequest(combiner=combiner, clients=group, at=context.now.wall))
    _record(context, session, number, window)
    for each in window.parts[first:]:
        _publish(context, session, window, each)


def _record(context: ReducerContext, session: Session, number: int, window: Window) -> None:
    context.emit(RecordWindow(window_record(session, number, window), context.term))


def _publish(context: ReducerContext, session: Session, window: Window, part: PlannedPart) -> None:
    publish_plan(context, session, part, window.model, max(0.0, window.closes_at - context.now.wall))


def publish_open_plans(context: ReducerContext, session: Session, combiner: str) -> None:
    """Publishes the plans that are open for a combiner, which has registered, and plans for clients that moved to it."""
    for number, window in list(session.validations.windows.items()):
        if window.closes_at <= context.now.wall:
            continue
        for part in window.parts:
            if part.combiner == combiner and not set(part.clients) <= _answered(session, window):
                _publish(context, session, window, part)
        _plan(context, session, number, window, window.planned & _wanted(context, session, number))


def reopen(session: Session, number: int, model: BlobRef, since: float) -> None:
    """Opens the window of the model of round `number`, which was open from `since` (UTC seconds) under an earlier reducer.

    The window has no plans, as those of an earlier reducer are no plans of this one.
    """
    closes_at = since + session.policy.validation_timeout
    session.validations.windows[number] = Window(model, closes_at)


def restore(session: Session, recorded: WindowRecord) -> None:
    """Restores whom an earlier reducer has requested, unless the model is no longer kept."""
    if window := session.validations.windows.get(recorded.round):
        window.requests, window.absent = list(recorded.requests), set(recorded.absent)
        window.closes_at = recorded.closes_at


def request_again(context: ReducerContext, session: Session) -> None:
    """Publishes plans for everybody whose answer may still arrive.

    Of the newest model, only if the next round has begun: before that, no client has received it.
    """
    for number, window in list(session.validations.windows.items()):
        is_newest = number == session.round - 1
        if (is_newest and session.attempt is not None) or (not is_newest and window.closes_at > context.now.wall):
            _plan(context, session, number, window, _wanted(context, session, number))


def _wanted(context: ReducerContext, session: Session, number: int) -> set[str]:
    """Returns the evaluators, and the clients if the policy says so or their metric decides whether a round follows."""
    clients, evaluators = _present(context, session)
    is_newest, validation = number == session.round - 1, session.policy.validation
    if validation == "separate" or (validation == "with_training" and is_newest and session.is_last):
        return clients | evaluators
    is_scored = is_newest and session.stage is Stage.SCORING
    return evaluators | _scorers(context, session) if is_scored else evaluators


def _scorers(context: ReducerContext, session: Session) -> set[str]:
    """Returns the clients or evaluators that have the metric that counts.

    If the policy names no metric, it is the evaluators' that counts, unless they all abstain, or clients have tensors of
    their own.
    """
    clients, evaluators = _present(context, session)
    score = session.ending.score
    metric = score.metric if score is not None else session.policy.select.metric
    if metric:
        return evaluators if metric.startswith("test/") else clients
    known = session.validations.of(session.model)
    if session.policy.tensors.local and clients:
        return clients
    return clients if all(name in known and not known[name].metrics for name in evaluators) else evaluators


def _present(context: ReducerContext, session: Session) -> tuple[set[str], set[str]]:
    """Returns the clients and the evaluators that are present to validate."""
    everybody = session.chosen(context.members.eligible("validate"))
    evaluators = {client.name for client in everybody if "train" not in client.tasks}
    return {client.name for client in everybody} - evaluators, evaluators


def missing(context: ReducerContext, session: Session, number: int) -> set[str]:
    """Returns the present clients whose plan is unanswered; while a model is scored, only those with the metric."""
    window = session.validations.windows.get(number)
    if window is None:
        return set()
    is_scored = session.stage is Stage.SCORING and number == session.round - 1
    awaited = _scorers(context, session) if is_scored else _wanted(context, session, number)
    return awaited & window.planned - _answered(session, window)


def is_any_missing(context: ReducerContext, session: Session) -> bool:
    """Returns whether a client's answer is missing in any window."""
    return any(missing(context, session, number) for number in session.validations.windows)


def _answered(session: Session, window: Window) -> set[str]:
    return set(session.validations.of(window.model))


def receive(context: ReducerContext, session: Session | None, event: Received, body: messages.Validation) -> None:
    """Records a validation, and acknowledges it.

    While its session is open, the validation replaces an earlier one of the client. Of an ended session, the first one is
    kept.
    """
    record = ValidationRecord.of(body, event.envelope.sender, context.now.wall)
    model, client = record.model, record.client
    recording: RecordValidations | RecordLateValidation
    if session is not None:
        session.validations.results.setdefault(model, {})[client] = record
        recording = RecordValidations((record,), context.term)
    else:
        recording = RecordLateValidation(record, context.term)
    data: dict[str, Any] = {
        "model": model,
        "scope": record.scope,
        "weight": record.weight,
        "metrics": record.metrics,
        "reason": record.reason,
    }
    if body.traceback:
        data["traceback"] = body.traceback
    if body.notes:
        data["notes"] = list(body.notes)
    event_id = validated_event(record.session, model, client)
    context.emit(
        recording,
        PublishEvent("model.validated", record.session, record.round, client, data=data, id=event_id),
        Ack((event.tag,)),
        Apart(),
    )


def note_place(session: Session | None, combiner: str, body: messages.Progress) -> None:
    """Notes where a client's validation hangs, unless it is of no open plan of this combiner and client."""
    window = session.validations.windows.get(body.plan.round) if session is not None else None
    parts = window.parts if window is not None else []
    mine = [part for part in parts if (part.key, part.combiner) == (body.plan, combiner)]
    if window is not None and body.client is not None and any(body.client in part.clients for part in mine):
        window.places[body.client] = body.place


def report_absent(context: ReducerContext, session: Session, number: int, *, only_away: bool = False) -> None:
    """Reports who was requested to validate a model and has not, once the session no longer waits for them.

    `only_away`: of these, only the clients that are away. Each client is reported once for each model.
    """
    window = session.validations.windows.get(number)
    if window is None:
        return
    requested, known = window.requested, context.members.clients
    absent = requested.keys() - _answered(session, window) - window.absent
    if only_away:
        absent = {client for client in absent if client not in known or not known[client].present}
    if not absent:
        return
    model, until = model_id(window.model.key), min(context.now.wall, window.closes_at)
    for client in sorted(absent):
        combiner, since = requested[client]
        data = {"model": model, "reason": _absence(context, window, client, combiner, max(0.0, until - since))}
        event_id = absent_event(session.name, model, client)
        context.emit(PublishEvent("validation.absent", session.name, number, client, data=data, id=event_id))
    window.absent |= absent
    _record(context, session, number, window)


def _absence(context: ReducerContext, window: Window, client: str, combiner: str, had: float) -> str:
    """Returns why a client is absent, and the remedy. `combiner`: where it had its task. `had`: seconds since then."""
    member, place, seconds = context.members.clients.get(client), window.places.get(client, ""), round(had, 1)
    if member is not None and member.present:
        return absence(seconds, place, "validation_timeout")
    if member is not None and member.combiner != combiner:
        return f"{unanswered(seconds, place)}; it was moved from combiner {combiner} to {member.combiner} meanwhile"
    return f"{unanswered(seconds, place)}; its process is away: its log names the cause, start it again"


def leave_out(session: Session, refused: ValidationRecord) -> None:
    """Leaves the metrics of a validation out of summaries, as the record store refuses them. The client has answered."""
    results = session.validations.results.get(refused.model, {})
    if results.get(refused.client) is refused:
        results[refused.client] = refused.model_copy(update={"metrics": {}})


def summary(session: Session, model: BlobRef) -> Summary:
    """Returns the metrics that the session has of a model. Those of evaluators are prefixed `test/`."""
    results = session.validations.of(model).values()
    return summarize_validations((each.scope, each.weight, each.metrics) for each in results)


def _record_summary(context: ReducerContext, session: Session, number: int, model: BlobRef) -> None:
    """Records the metrics of the model of round `number`, if there are any.

    The model of round 0 is not the session's own. Its record may belong to a session that has ended, so this session's
    summary of it is a record of its own.
    """
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
    """Records the metrics of a committed model's parent, and closes older windows.

    A window of an older model is closed if all have answered, or if its time is over.
    """
    windows = session.validations.windows
    _record_summary(context, session, session.round - 2, parent)
    for number, window in list(windows.items()):
        is_over = window.closes_at <= context.now.wall or window.requested.keys() <= _answered(session, window)
        if number < session.round - 2 and is_over:
            report_absent(context, session, number)
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
