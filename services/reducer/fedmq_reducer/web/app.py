"""The web application of a reducer, also of one that stands by: its routers, answers to errors, and its server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException

import fedmq
from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Broker, Connection
from fedmq.process.settings import ReducerSettings
from fedmq.records.base import Records
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler
from fedmq.web.access import Access
from fedmq_reducer.web.api import downloads, events, health, members, models, sessions, starting
from fedmq_reducer.web.api.access import Guard
from fedmq_reducer.web.api.answers import Json, add_error_answers
from fedmq_reducer.web.api.context import ApiContext, check_records
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.api.publisher import ControlPublisher
from fedmq_reducer.web.api.server import ApiServer
from fedmq_reducer.web.page.router import ControlPage
from fedmq_schemas.topology import Topology

DESCRIPTION = """Starts, stops and shows sessions. Changing requests need `Authorization: Bearer TOKEN` where the server
has an admin token; beyond the server's machine all requests but `/health` need it. Errors are `{"error": "…"}` and say
what to change. Lists come in pages: `after` takes the `next` of the page before. NaN and the infinities are the texts
`NaN`, `Infinity`, `-Infinity`."""


def create_app(context: ApiContext) -> FastAPI:
    """Returns the API, with the control page at `/` and at a browser's `/start`."""
    app = FastAPI(
        title="FedMQ",
        version=fedmq.__version__,
        description=DESCRIPTION,
        default_response_class=Json,
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
    )
    page = ControlPage(context)
    app.state.context, app.state.form = context, page.form
    for module in (starting, sessions, models, downloads, members, events, health):
        app.include_router(module.router, dependencies=[Depends(check_records)])
    app.include_router(page.router)
    add_error_answers(app)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Json:
        reason = error.detail
        if error.status_code in (404, 405):  # The router's: a record that is missing raises NotFound.
            reason = f"{request.method} {request.url.path}: there is no such thing to ask; /docs lists what there is"
        return Json({"error": reason}, error.status_code, headers=error.headers)

    app.add_middleware(Guard, access=context.access, largest_seed=context.largest_seed)
    return app


def serve_api(
    settings: ReducerSettings,
    broker: Broker,
    account: str,
    scheduler: Scheduler,
    *,
    blobs: Blobs,
    records: Records,
    scratch: Path,
    name: str,
    new_id: Callable[[], str],
    stalls: Stalls,
    control: Connection,
    access: Access,
) -> ApiServer:
    """Returns the server, bound to the port that the settings name. It publishes over `control`.

    Raises ConfigError if the port is taken.
    """
    topology = Topology(settings.alliance)
    feed = EventStream()
    events = broker.connect("api.feed")
    scheduler.post(lambda: feed.watch(events, topology, name))
    context = ApiContext(
        alliance=settings.alliance,
        records=records,
        blobs=blobs,
        publish=ControlPublisher(control, scheduler, topology, account),
        feed=feed,
        new_id=new_id,
        scratch=scratch,
        access=access,
        largest_seed=settings.seed_limit << 20,
        stalls=stalls,
    )
    return ApiServer(
        create_app(context),
        settings.reducer_bind,
        settings.reducer_port,
        certificate=settings.reducer_tls_cert,
        key=settings.reducer_tls_key,
    )


_ERRORS: dict[int | str, dict[str, object]] = {
    code: {"description": words, "content": {"application/json": {"schema": {"type": "object"}}}}
    for code, words in {
        400: "the body can't be read",
        401: "the admin token is missing or wrong",
        403: "a page of another site asks",
        404: "it is not there",
        408: "the body did not go on",
        409: "the answer is no",
        413: "the body is too large",
        422: "wrong parameters; says what to change",
        503: "a server that this one needs is away",
    }.items()
}
