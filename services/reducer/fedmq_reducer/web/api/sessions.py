"""Sessions, their rounds, and why a client takes part in one or not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from fastapi.responses import PlainTextResponse

from fedmq.errors import Refused
from fedmq.policies import to_toml
from fedmq.records.base import Records
from fedmq.records.trail import first_model
from fedmq.records.without_metrics import not_accepted, reasons_by_client, without_metrics
from fedmq_reducer.members.eligibility import explain
from fedmq_reducer.web.api.access import GUARDED
from fedmq_reducer.web.api.answers import After, Json, Limit, SessionId, page
from fedmq_reducer.web.api.context import RequestContext
from fedmq_reducer.web.api.open_round import (
    absences,
    answers_so_far,
    newest_attempt,
    not_validated,
    open_round,
    open_validation,
)
from fedmq_reducer.web.api.stalls import all_stalls, stalls_during, with_stalls
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import ForgetSessionRequest
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import SessionState

MANY = 1_000_000
RoundNumber = Annotated[int, PathParameter(ge=0, le=MANY, description="a round's number")]

router = APIRouter(prefix="/sessions", tags=["sessions"])


@router.get("")
def list_sessions(
    context: RequestContext,
    state: Annotated[SessionState | None, Query()] = None,
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """Lists sessions, newest first."""
    where = {"state": state}
    found = page(context.records, tables.SESSIONS, where, order="position", descending=True, limit=limit, after=after)
    stalls = all_stalls(context.records, context.stalls)
    items = [_with_progress(context.records, with_stalls(document, stalls)) for document in found["items"]]
    return Json({**found, "items": items})


@router.get("/{session}")
def one_session(context: RequestContext, session: SessionId) -> Response:
    """Returns a session's state, why it waits or has ended, its policy, and how many rounds are committed.

    `open_round`: its deadline, and who has answered with what; null if no round is open. `open_validation`: the same of the
    last model's validation. `stalls`: of a session that has failed, which servers did not answer while it ran.
    """
    records = context.records
    document = with_stalls(context.found(tables.SESSIONS, session, "session"), all_stalls(records, context.stalls))
    found = {"open_round": open_round(records, document), "open_validation": open_validation(records, document)}
    ended = {"stalls": stalls_during(records, document)} if document["state"] == "failed" else {}
    return Json({**_with_progress(records, document), **found, **ended})


@router.get("/{session}/policy.toml", response_class=PlainTextResponse)
def policy(context: RequestContext, session: SessionId) -> str:
    """Returns the policy as a session file, with its random seed, so that the session can be run again."""
    document = context.found(tables.SESSIONS, session, "session")
    ran = {**document["policy"], "seed": document["seed"], "random_seed": document["random_seed"]}
    return to_toml(Policy.model_validate(ran))


@router.post("/{session}/stop", status_code=202, dependencies=GUARDED)
def stop(context: RequestContext, session: SessionId, when: Literal["now", "after_round"] = "now") -> Response:
    """Ends a session now, or after the round that is open. A session that has ended stays as it is."""
    document = context.stop(session, when)
    return Json({"session": session, "state": document["state"]}, 202)


@router.delete("/{session}", status_code=202, dependencies=GUARDED)
def forget(context: RequestContext, session: SessionId) -> Response:
    """Deletes what is recorded of an ended session, except its ledger: rounds, models, participation and validations."""
    state = context.found(tables.SESSIONS, session, "session")["state"]
    if state not in tables.ENDED:
        raise Refused(f"session {session!r} is {state} and can't be forgotten: `fedmq stop {session}` ends it")
    context.publish(ForgetSessionRequest(session=session), context.new_id())
    return Json({"session": session}, 202)


@router.get("/{session}/metrics")
def metrics(context: RequestContext, session: SessionId, limit: Limit = 100, after: After = None) -> Response:
    """Lists `round`, `model` and `metrics` of each of the session's models, as this session measured them.

    The model that the session started from has round 0.
    """
    document = context.found(tables.SESSIONS, session, "session")
    made = page(context.records, tables.MODELS, {"session": session}, order="round", limit=limit, after=after)
    items = [{name: model[name] for name in ("round", "model", "metrics")} for model in made["items"]]
    first = first_model(context.records, document) if after is None else None
    if first is not None:
        items.insert(0, {"round": 0, **first})
    return Json({**made, "items": items})


@router.get("/{session}/without_metrics")
def validations_without_metrics(context: RequestContext, session: SessionId) -> Response:
    """Returns how many validations the session has, `asked`, and in `reasons` why some of them have no metrics."""
    context.found(tables.SESSIONS, session, "session")
    return Json(without_metrics(context.records, session))


@router.get("/{session}/not_accepted")
def updates_not_accepted(context: RequestContext, session: SessionId) -> Response:
    """Returns how many updates the committed rounds asked for, `asked`, and in `reasons` why some were not accepted."""
    context.found(tables.SESSIONS, session, "session")
    return Json(not_accepted(context.records, session))


@router.get("/{session}/rounds")
def rounds(context: RequestContext, session: SessionId, limit: Limit = 100, after: After = None) -> Response:
    """Lists the committed rounds, first to last."""
    context.found(tables.SESSIONS, session, "session")
    return Json(page(context.records, tables.ROUNDS, {"session": session}, order="round", limit=limit, after=after))


@router.get("/{session}/rounds/{number}")
def one_round(context: RequestContext, session: SessionId, number: RoundNumber) -> Response:
    """Returns a committed round with its attempts, and the outcome of each client's task."""
    document = context.found(tables.ROUNDS, keys.round_record(session, number), "committed round")
    where = {"session": session, "round": number}
    attempts = list(context.records.find(tables.ATTEMPTS, where))
    participation = list(context.records.find(tables.PARTICIPATION, where))
    return Json({**document, "attempts": attempts, "participation": participation})


@router.get("/{session}/clients")
def clients(context: RequestContext, session: SessionId) -> Response:
    """Lists for each client of the alliance its part in the session's newest attempt at a round, or why it has none.

    Adds why a client has not validated the last model, or why that has no metrics.
    """
    document = context.found(tables.SESSIONS, session, "session")
    newest = newest_attempt(context.records, session)
    answers = answers_so_far(context.records, document, newest) if newest is not None else {}
    missing: dict[str, str] = {}
    if newest is not None:
        missing = reasons_by_client(context.records, session, newest["round"])
        missing |= not_validated(context.records, document, newest["round"])
    found = context.records.find(tables.CLIENTS)
    away = absences(context.records)
    items = [
        explain(client, document, newest, answers.get(client["client"]), away.get(client["client"], ""))
        for client in found
    ]
    for item in items:
        if item["client"] in missing:
            item["why"] += f"; {missing[item['client']]}"
    return Json({"items": items, "next": None})


def _with_progress(records: Records, document: dict[str, Any]) -> dict[str, Any]:
    """Returns a session's record with the number of committed rounds, and the newest model."""
    newest = records.find(tables.ROUNDS, {"session": document["session"]}, order="round", descending=True, limit=1)
    committed = newest[0] if newest else None
    model = keys.model_id(committed["model"]["key"]) if committed else document["seed"]
    return {**document, "rounds_committed": committed["round"] if committed else 0, "model": model}
