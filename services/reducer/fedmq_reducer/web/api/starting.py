"""`/start`: a session, from curl, a program or a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import Response

from fedmq.errors import ConfigError
from fedmq.policies import checked_policy, with_settings
from fedmq_reducer.web.api.answers import SESSION, Json
from fedmq_reducer.web.api.browsers import is_browser
from fedmq_reducer.web.api.context import ApiContext
from fedmq_schemas.policy import Policy

StartId = Annotated[
    str | None,
    Query(alias="id", pattern=SESSION, description="the session's id; the same id sent twice starts once"),
]
FEDN_NAMES = {"model_id": "seed", "model": "seed"}
QUERY = [
    {"name": name, "in": "query", "required": False, "schema": {"type": kind}, "description": description}
    for name, kind, description in (
        ("rounds", "integer", "how many models to make"),
        ("seed", "string", "id of the model to start from"),
        ("timeout", "number", "seconds that a round may take"),
        ("clients_required", "integer", "fewest updates that make a round"),
        ("clients_requested", "integer", "most clients asked in a round"),
    )
]

PolicyForm = Callable[[Request], Response]


def starting(context: ApiContext, guard: Callable[[Request], None], form: PolicyForm) -> APIRouter:
    """`form` answers a browser's GET."""
    router = APIRouter(tags=["start"])

    @router.get(
        "/start",
        status_code=202,
        openapi_extra={"parameters": QUERY},
        responses={200: {"content": {"text/html": {}}, "description": "a browser gets the form and starts nothing"}},
    )
    def start_by_get(request: Request, session: StartId = None) -> Response:
        """Starts a session with what the query says, any key of the policy (`train.epochs=2` reaches into a section),
        and defaults for the rest. A browser gets the form instead."""
        if is_browser(request):
            return form(request)
        guard(request)
        return _accepted(context.start(_policy(request), session))

    @router.post("/start", status_code=202, dependencies=[Depends(guard)], openapi_extra={"parameters": QUERY})
    def start_by_post(
        request: Request, policy: Annotated[Policy | None, Body()] = None, session: StartId = None
    ) -> Response:
        """Starts a session with this policy, or with what the query says, as GET does; and defaults for the rest.
        Answers at once."""
        if policy is None:
            policy = _policy(request)
        elif request.query_params.keys() - {"id"}:
            raise ConfigError("the policy is the body of this request: leave it out of the address")
        return _accepted(context.start(policy, session))

    return router


def _policy(request: Request) -> Policy:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        key = FEDN_NAMES.get(name, name)
        if key in given:
            raise ConfigError(f"{name} is given twice")
        if key != "id":
            given[key] = value
    values: dict[str, Any] = with_settings({}, (f"{key}={value}" for key, value in given.items()))
    return checked_policy(values)


def _accepted(session: str) -> Response:
    location = f"/sessions/{session}"
    return Json({"session": session, "follow": location}, 202, headers={"Location": location})
