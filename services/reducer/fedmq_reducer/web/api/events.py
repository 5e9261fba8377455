"""Events: what happened, and what happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from fedmq_reducer.web.api.answers import After, Json, Limit, page
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.api.feed import KEPT
from fedmq_schemas import records as tables

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
QUIET = 15.0
SLACK = 5.0
"""Seconds: events of several machines reach the records out of order by their clocks, and by a batch."""

OfSession = Annotated[str | None, Query(pattern=NAME, description="only this session's")]
OfClient = Annotated[str | None, Query(pattern=NAME, description="only this client's")]
Named = Annotated[str | None, Query(pattern=r"^[a-z_.]{1,60}$", description="only these, e.g. round.committed")]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=200)]


def events(context: ApiContext) -> APIRouter:
    router = APIRouter(prefix="/events", tags=["events"])

    @router.get("")
    def list_events(
        session: OfSession = None,
        client: OfClient = None,
        name: Named = None,
        oldest_first: bool = False,
        limit: Limit = 100,
        after: After = None,
    ) -> Response:
        """Recorded events, newest first unless told."""
        where = {"session": session, "client": client, "name": name}
        return Json(
            page(
                context.records, tables.EVENTS, where, order="at", descending=not oldest_first, limit=limit,
                after=after,
            )
        )  # fmt: skip

    @router.get(
        "/stream",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "each event's JSON, with its id"}},
    )
    async def stream(
        session: OfSession = None,
        client: OfClient = None,
        name: Named = None,
        last: LastId = None,
        replay: Annotated[bool, Query(description="begin with the session's recorded events")] = False,
    ) -> Response:
        """Events as they happen (server-sent). After `Last-Event-ID` it begins a little before that event: each event
        comes at least once, and what came before is known by its id."""
        where = {"session": session, "client": client, "name": name}
        wanted = {field: value for field, value in where.items() if value is not None}
        since = await run_in_threadpool(_since, context, last) if last is not None else None
        from_start = replay and session is not None
        documents = _documents(context, wanted, since, from_start)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_frames(documents), media_type="text/event-stream", headers=headers)

    return router


def _since(context: ApiContext, last: str) -> float | None:
    """When to begin so that nothing after the event `last` is missed; None: from now on, as it is not known."""
    document = context.records.get(tables.EVENTS, last)
    return document["at"] - SLACK if document is not None else None


async def _documents(
    context: ApiContext, wanted: dict[str, str], since: float | None, from_start: bool
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Recorded events from `since`, then live ones, each once; None where it has been quiet."""
    told: dict[str, None] = {}
    with context.feed.subscribe() as subscription:
        past: Iterable[dict[str, Any]] = ()
        if from_start or since is not None:
            recorded = await run_in_threadpool(_recorded, context, wanted, None if from_start else since)
            here = [document for document in subscription.newest if since is None or document["at"] >= since]
            past = sorted({document["id"]: document for document in (*recorded, *here)}.values(), key=_when)
        for document in past:
            if _fits(document, wanted):
                told[document["id"]] = None
                yield document
        while not subscription.lost:
            live = await subscription.next(QUIET)
            if live is None:
                yield None
            elif _fits(live, wanted) and live["id"] not in told:
                told[live["id"]] = None
                if len(told) > KEPT:
                    del told[next(iter(told))]
                yield live


def _recorded(context: ApiContext, wanted: dict[str, str], since: float | None) -> list[dict[str, Any]]:
    return list(context.records.find(tables.EVENTS, wanted, order="at", after=since))


def _when(document: dict[str, Any]) -> float:
    return float(document["at"])


def _fits(document: dict[str, Any], wanted: dict[str, str]) -> bool:
    return all(document[field] == value for field, value in wanted.items())


async def _frames(documents: AsyncGenerator[dict[str, Any] | None, None]) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    try:
        async with aclosing(documents):
            async for document in documents:
                if document is None:
                    yield b": still here\n\n"
                else:
                    data = bytes(Json(document).body)
                    yield b"id: " + json.dumps(document["id"])[1:-1].encode() + b"\nevent: " + document["name"].encode()
                    yield b"\ndata: " + data + b"\n"
    except asyncio.CancelledError:
        return  # the server stops, or the reader has left
