"""Clients and combiners."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from fedmq.errors import Refused
from fedmq_reducer.web.api.access import GUARDED
from fedmq_reducer.web.api.answers import NAME, AfterName, Json, Limit, page
from fedmq_reducer.web.api.context import RequestContext
from fedmq_schemas import records as tables
from fedmq_schemas.messages import ForgetMemberRequest

ClientName = Annotated[str, Path(pattern=NAME, description="a client's name")]
CombinerName = Annotated[str, Path(pattern=NAME, description="a combiner's name")]
PresenceFilter = Annotated[Literal["present", "away"] | None, Query()]

router = APIRouter(tags=["clients and combiners"])


@router.get("/clients")
def list_clients(
    context: RequestContext,
    state: PresenceFilter = None,
    combiner: Annotated[str | None, Query(pattern=NAME)] = None,
    limit: Limit = 100,
    after: AfterName = None,
) -> Response:
    """Lists clients by name."""
    where = {"state": state, "combiner": combiner}
    return Json(page(context.records, tables.CLIENTS, where, limit=limit, after=after))


@router.get("/clients/{client}")
def one_client(context: RequestContext, client: ClientName) -> Response:
    """Returns a client's labels, tasks, package, combiner, and when its presence changed last."""
    return Json(context.found(tables.CLIENTS, client, "client"))


@router.get("/combiners")
def list_combiners(
    context: RequestContext, state: PresenceFilter = None, limit: Limit = 100, after: AfterName = None
) -> Response:
    """Lists combiners by name."""
    return Json(page(context.records, tables.COMBINERS, {"state": state}, limit=limit, after=after))


@router.get("/combiners/{combiner}")
def one_combiner(context: RequestContext, combiner: CombinerName) -> Response:
    """Returns how many clients a combiner has, and when it sent its last heartbeat."""
    return Json(context.found(tables.COMBINERS, combiner, "combiner"))


@router.delete("/clients/{client}", status_code=202, dependencies=GUARDED)
def forget_client(context: RequestContext, client: ClientName) -> Response:
    """Deletes the record of a client that is away. Refuses one that is present."""
    return _forget(context, ForgetMemberRequest(member="client", name=client), tables.CLIENTS)


@router.delete("/combiners/{combiner}", status_code=202, dependencies=GUARDED)
def forget_combiner(context: RequestContext, combiner: CombinerName) -> Response:
    """Deletes the record of a combiner that is away. Refuses one that is present."""
    return _forget(context, ForgetMemberRequest(member="combiner", name=combiner), tables.COMBINERS)


def _forget(context: RequestContext, body: ForgetMemberRequest, table: str) -> Response:
    document = context.found(table, body.name, body.member)
    if document["state"] == "present":
        raise Refused(f"{body.member} {body.name!r} is present and can't be forgotten: stop it first")
    context.publish(body, context.new_id())
    return Json({body.member: body.name}, 202)
