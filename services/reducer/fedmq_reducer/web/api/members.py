"""Clients and combiners."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from fedmq_reducer.web.api.answers import AfterName, Json, Limit, page
from fedmq_reducer.web.api.context import ApiContext
from fedmq_schemas import records as tables

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
ClientName = Annotated[str, Path(pattern=NAME, description="a client's name")]
CombinerName = Annotated[str, Path(pattern=NAME, description="a combiner's name")]
PresenceFilter = Annotated[Literal["present", "away"] | None, Query()]


def members(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["clients and combiners"])
    records = context.records

    @router.get("/clients")
    def list_clients(
        state: PresenceFilter = None,
        combiner: Annotated[str | None, Query(pattern=NAME)] = None,
        limit: Limit = 100,
        after: AfterName = None,
    ) -> Response:
        """By name."""
        where = {"state": state, "combiner": combiner}
        return Json(page(records, tables.CLIENTS, where, limit=limit, after=after))

    @router.get("/clients/{client}")
    def one_client(client: ClientName) -> Response:
        """Its labels, tasks, package, combiner, and when it was last heard."""
        return Json(context.found(tables.CLIENTS, client, "client"))

    @router.get("/combiners")
    def list_combiners(state: PresenceFilter = None, limit: Limit = 100, after: AfterName = None) -> Response:
        """By name."""
        return Json(page(records, tables.COMBINERS, {"state": state}, limit=limit, after=after))

    @router.get("/combiners/{combiner}")
    def one_combiner(combiner: CombinerName) -> Response:
        """How many clients it has, and when it was last heard."""
        return Json(context.found(tables.COMBINERS, combiner, "combiner"))

    return router
