"""`/start`: starts a session, from curl, a program or a browser."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response

from fedmq.errors import ConfigError
from fedmq.policies import checked_policy, with_settings
from fedmq_reducer.web.api.access import GUARDED, check_may_change, is_browser
from fedmq_reducer.web.api.answers import SESSION, Json
from fedmq_reducer.web.api.context import RequestContext
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

router = APIRouter(tags=["start"])


@router.get(
    "/start",
    status_code=202,
    openapi_extra={"parameters": QUERY},
    responses={200: {"content": {"text/html": {}}, "description": "a browser gets the form and starts nothing"}},
)
def start_by_get(context: RequestContext, request: Request, session: StartId = None) -> Response:
    """Starts a session with the policy in the query, and defaults for the rest. A browser gets the form instead.

    Any key of the policy may be given; `train.epochs=2` sets a key of a section.
    """
    if is_browser(request):
        form: Response = request.app.state.form(request)
        return form
    check_may_change(request)
    return _accepted(context.start(_policy(request), session))


@router.post("/start", status_code=202, dependencies=GUARDED, openapi_extra={"parameters": QUERY})
def start_by_post(
    context: RequestContext, request: Request, policy: Annotated[Policy | None, Body()] = None, session: StartId = None
) -> Response:
    """Starts a session with the policy in the body or in the query, and defaults for the rest. Answers at once."""
    if policy is None:
        policy = _policy(request)
    elif request.query_params.keys() - {"id"}:
        raise ConfigError("the policy is the body of this request: leave it out of the address")
    return _accepted(context.start(policy, session))


def _policy(request: Request) -> Policy:
    """Returns the policy of the query. Raises ConfigError for a key that is given twice, unknown or wrong."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        key = FEDN_NAMES.get(name, name)
        if key in given:
            raise ConfigError(f"{name} is given twice")
        if key != "id":
            given[key] = value
    return checked_policy(with_settings({}, (f"{key}={value}" for key, value in given.items())))


def _accepted(session: str) -> Response:
    location = f"/sessions/{session}"
    return Json({"session": session, "follow": location}, 202, headers={"Location": location})
