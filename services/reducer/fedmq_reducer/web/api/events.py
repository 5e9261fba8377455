"""Events: recorded ones in pages, and new ones as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from operator import itemgetter
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from fedmq_reducer.web.api.answers import NAME, After, Json, Limit, page
from fedmq_reducer.web.api.context import ApiContext, RequestContext
from fedmq_reducer.web.api.feed import KEPT
from fedmq_schemas import records as tables

QUIET = 15.0
"""Seconds without an event after which the stream sends a comment, so that the connection stays open."""
SLACK = 5.0
"""Seconds: events of several machines reach the records out of order by their clocks, and by a batch."""

OfSession = Annotated[str | None, Query(pattern=NAME, description="only this session's")]
OfClient = Annotated[str | None, Query(pattern=NAME, description="only this client's")]
EventName = Annotated[str, StringConstraints(pattern=r"^[a-z_.]{1,60}$")]
Named = Annotated[
    list[EventName] | None, Query(max_length=100, description="only these, e.g. round.committed; may be repeated")
]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=200)]

router = APIRouter(prefix="/events", tags=["events"])


@router.get("")
def list_events(
    context: RequestContext,
    session: OfSession = None,
    client: OfClient = None,
    name: Named = None,
    oldest_first: bool = False,
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """Lists recorded events, by default newest first."""
    where = {"session": session, "client": client, "name": name}
    descending = not oldest_first
    return Json(
        page(context.records, tables.EVENTS, where, order="at", descending=descending, limit=limit, after=after)
    )


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "each event's JSON, with its id"}},
)
async def stream(
    context: RequestContext,
    session: OfSession = None,
    client: OfClient = None,
    name: Named = None,
    last: LastId = None,
    replay: Annotated[bool, Query(description="begin with the session's recorded events")] = False,
) -> Response:
    """Sends events as they are published (server-sent events).

    With `Last-Event-ID` the stream begins a little before that event. Each event is then sent at least once; a reader
    recognises repeated events by their ids.
    """
    where = {"session": session, "client": client, "name": name}
    wanted = {field: value for field, value in where.items() if value is not None}
    since = await run_in_threadpool(_since, context, last) if last is not None else None
    documents = _documents(context, wanted, since, from_start=replay and session is not None)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(documents), media_type="text/event-stream", headers=headers)


def _since(context: ApiContext, last: str) -> float | None:
    """Returns the time from which no event after the event `last` is missed, or None if that event is unknown."""
    document = context.records.get(tables.EVENTS, last)
    return document["at"] - SLACK if document is not None else None


async def _documents(
    context: ApiContext, wanted: dict[str, Any], since: float | None, from_start: bool
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Yields recorded events from `since`, then new ones, each once; None after each quiet period."""
    sent: dict[str, None] = {}
    with context.feed.subscribe() as subscription:
        past: Iterable[dict[str, Any]] = ()
        if from_start or since is not None:
            after = None if from_start else since
            recorded = await run_in_threadpool(context.records.find, tables.EVENTS, wanted, order="at", after=after)
            here = [document for document in subscription.newest if since is None or document["at"] >= since]
            past = sorted({document["id"]: document for document in (*recorded, *here)}.values(), key=itemgetter("at"))
        for document in past:
            if _fits(document, wanted):
                sent[document["id"]] = None
                yield document
        while not subscription.lost:
            new = await subscription.next(QUIET)
            if new is None:
                yield None
            elif _fits(new, wanted) and new["id"] not in sent:
                sent[new["id"]] = None
                if len(sent) > KEPT:
                    del sent[next(iter(sent))]
                yield new


def _fits(document: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Returns whether each field has its value; for a list, any of its values."""
    return all(document[field] in (value if isinstance(value, list) else [value]) for field, value in wanted.items())


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
