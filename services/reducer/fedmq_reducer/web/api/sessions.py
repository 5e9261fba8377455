"""Sessions, their rounds, and why a client is in one or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import PlainTextResponse

from fedmq.policies import to_toml
from fedmq.records.trail import first_model
from fedmq_reducer.eligibility import explain
from fedmq_reducer.web.api.answers import After, Json, Limit, SessionId, page
from fedmq_reducer.web.api.context import ApiContext
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import SessionState

MANY = 1_000_000
Number = Annotated[int, PathParameter(ge=0, le=MANY, description="a round's number")]


def sessions(context: ApiContext, guard: Callable[[Request], None]) -> APIRouter:
    router = APIRouter(prefix="/sessions", tags=["sessions"])
    records = context.records

    def with_progress(document: dict[str, Any]) -> dict[str, Any]:
        """Beside the record: how many rounds are committed, and the newest model."""
        newest = records.find(tables.ROUNDS, {"session": document["session"]}, order="round", descending=True, limit=1)
        committed = newest[0] if newest else None
        model = keys.model_id(committed["model"]["key"]) if committed else document["seed"]
        return {**document, "rounds_committed": committed["round"] if committed else 0, "model": model}

    @router.get("")
    def list_sessions(
        state: Annotated[SessionState | None, Query()] = None, limit: Limit = 100, after: After = None
    ) -> Response:
        """Newest first."""
        found = page(
            records, tables.SESSIONS, {"state": state}, order="position", descending=True, limit=limit, after=after
        )
        return Json({**found, "items": [with_progress(document) for document in found["items"]]})

    @router.get("/{session}")
    def one_session(session: SessionId) -> Response:
        """Its state, what it waits for or why it ended, its policy, and how far it is."""
        return Json(with_progress(context.found(tables.SESSIONS, session, "session")))

    @router.get("/{session}/policy.toml", response_class=PlainTextResponse)
    def policy(session: SessionId) -> str:
        """The policy as a session file, with its random seed, so that it can be run again."""
        document = context.found(tables.SESSIONS, session, "session")
        ran = {**document["policy"], "seed": document["seed"], "random_seed": document["random_seed"]}
        return to_toml(Policy.model_validate(ran))

    @router.post("/{session}/stop", status_code=202, dependencies=[Depends(guard)])
    def stop(session: SessionId, when: Literal["now", "after_round"] = "now") -> Response:
        """Ends it now, or after the round that is open; one that has ended stays as it is."""
        document = context.stop(session, when)
        return Json({"session": session, "state": document["state"]}, 202)

    @router.get("/{session}/metrics")
    def metrics(session: SessionId, limit: Limit = 100, after: After = None) -> Response:
        """Of each of its models `round`, `model` and `metrics`, as this session found them; the model that it started from
        is that of round 0."""
        document = context.found(tables.SESSIONS, session, "session")
        made = page(records, tables.MODELS, {"session": session}, order="round", limit=limit, after=after)
        items = [{name: model[name] for name in ("round", "model", "metrics")} for model in made["items"]]
        first = first_model(records, document) if after is None else None
        if first is not None:
            items.insert(0, {"round": 0, **first})
        return Json({**made, "items": items})

    @router.get("/{session}/rounds")
    def rounds(session: SessionId, limit: Limit = 100, after: After = None) -> Response:
        """The committed rounds, first to last."""
        context.found(tables.SESSIONS, session, "session")
        return Json(page(records, tables.ROUNDS, {"session": session}, order="round", limit=limit, after=after))

    @router.get("/{session}/rounds/{number}")
    def one_round(session: SessionId, number: Number) -> Response:
        """A committed round with its attempts, and what became of each client's task."""
        document = context.found(tables.ROUNDS, keys.round_record(session, number), "committed round")
        where = {"session": session, "round": number}
        attempts = list(records.find(tables.ATTEMPTS, where))
        participation = list(records.find(tables.PARTICIPATION, where))
        return Json({**document, "attempts": attempts, "participation": participation})

    @router.get("/{session}/clients")
    def clients(session: SessionId) -> Response:
        """For every client of the alliance: what it did in this session's newest round, or why it has no part in it."""
        document = context.found(tables.SESSIONS, session, "session")
        attempts = records.find(tables.ATTEMPTS, {"session": session})
        newest = max(attempts, key=lambda each: (each["round"], each["attempt"]), default=None)
        outcomes = None
        if newest is not None:
            key = keys.attempt_record(session, newest["round"], newest["attempt"])
            outcomes = records.get(tables.PARTICIPATION, key)
        found = records.find(tables.CLIENTS)
        return Json({"items": [explain(client, document, newest, outcomes) for client in found], "next": None})

    return router
