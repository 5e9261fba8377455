"""Blobs by key: what `fedmq model verify` recomputes a round from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse

from fedmq.blobs.base import Blobs
from fedmq_reducer.web.api.context import ApiContext

PIECE = 1 << 20
Key = Annotated[str, Path(max_length=1024, description="bucket and name, as references have it")]


def blobs(context: ApiContext, guard: Callable[[Request], None]) -> APIRouter:
    router = APIRouter(prefix="/blobs", tags=["models"])

    @router.get(
        "/{key:path}",
        dependencies=[Depends(guard)],
        response_class=StreamingResponse,
        responses={200: {"content": {"application/octet-stream": {}}, "description": "the bytes"}},
    )
    def download(key: Key) -> Response:
        """Needs the admin token, where there is one: an update may tell of its client's data."""
        return streamed(context.blobs, key, context.blobs.stat(key).size)

    return router


def streamed(store: Blobs, key: str, size: int, headers: dict[str, str] | None = None) -> Response:
    """A blob, a piece at a time."""

    def pieces() -> Iterator[bytes]:
        for offset in range(0, size, PIECE):
            yield store.read(key, offset, PIECE)

    length = {"Content-Length": str(size)}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=length | (headers or {}))
