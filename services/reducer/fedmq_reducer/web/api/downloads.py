"""Bytes from the blob store: models, their bases and ledgers, and blobs by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse

from fedmq.blobs.base import Blobs
from fedmq.errors import NotFound
from fedmq_reducer.retention import check_kept
from fedmq_reducer.web.api.access import GUARDED
from fedmq_reducer.web.api.answers import ModelId
from fedmq_reducer.web.api.context import RequestContext
from fedmq_schemas.messages import BlobRef

PIECE = 1 << 20
Key = Annotated[str, Path(max_length=1024, description="bucket and name, as references have it")]
SAFETENSORS = {"content": {"application/octet-stream": {}}, "description": "safetensors"}

router = APIRouter(tags=["models"])


@router.get(
    "/models/{model}/download",
    response_class=StreamingResponse,
    responses={200: SAFETENSORS, 410: {"description": "the retention of its session has deleted it"}},
)
def download(context: RequestContext, model: ModelId) -> Response:
    """Returns the model as safetensors, without the tensors of its base.

    `X-Content-SHA256` is the recorded hash. 410: the bytes are no longer kept.
    """
    found = context.model(model)
    check_kept(found)
    return _streamed_model(context.blobs, found["ref"], f"{model}.safetensors")


@router.get("/models/{model}/base", response_class=StreamingResponse, responses={200: SAFETENSORS})
def base(context: RequestContext, model: ModelId) -> Response:
    """Returns the model's local and frozen tensors, if the session's policy has such.

    They are not sent with each model. Local tensors have the values of the seed.
    """
    reference = context.model(model)["base"]
    if reference is None:
        raise NotFound(f"{model!r} is whole: it has no base")
    return _streamed_model(context.blobs, reference, f"{model}-base.safetensors")


@router.get("/models/{model}/ledger")
def ledger(context: RequestContext, model: ModelId) -> Response:
    """Returns the ledger of the model's round as JSON: each task's outcome, and the exponents, to recompute the sum."""
    reference = context.model(model)["ledger"]
    if reference is None:
        raise NotFound(f"{model!r} is a seed: no round made it, so it has no ledger")
    return Response(context.blobs.get(BlobRef.model_validate(reference).key), media_type="application/json")


@router.get(
    "/blobs/{key:path}",
    dependencies=GUARDED,
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "the bytes"}},
)
def download_blob(context: RequestContext, key: Key) -> Response:
    """Returns a blob, for instance an update, from which `fedmq model verify` recomputes a round.

    Needs the admin token, if the server has one: an update may reveal data of its client.
    """
    return _streamed(context.blobs, key, context.blobs.stat(key).size, {})


def _streamed_model(blobs: Blobs, reference: dict[str, Any], name: str) -> Response:
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if reference["sha256"]:
        headers["X-Content-SHA256"] = reference["sha256"]
    return _streamed(blobs, reference["key"], reference["size"], headers)


def _streamed(blobs: Blobs, key: str, size: int, headers: dict[str, str]) -> Response:
    """Returns a blob that is read a piece at a time."""

    def pieces() -> Iterator[bytes]:
        for offset in range(0, size, PIECE):
            yield blobs.read(key, offset, PIECE)

    headers = {"Content-Length": str(size), **headers}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)
