"""The trail of models: lists, finds, and uploads of seeds."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from fedmq.blobs.base import Blobs
from fedmq.errors import InvalidUpdate, NotFound, Refused
from fedmq.model_files.filetypes import found_instead
from fedmq.tensors import Spec, TensorRole, check_roles_stated, spec_of
from fedmq.tensors.tensorblob import Source
from fedmq_reducer.selection import best_model, has_own_tensors
from fedmq_reducer.web.api.access import GUARDED
from fedmq_reducer.web.api.answers import MOST, SEED, SESSION, After, Json, Limit, ModelId, page
from fedmq_reducer.web.api.context import ApiContext, RequestContext, unused_model
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef

InSession = Annotated[str | None, Query(pattern=SESSION, description="only models of this session")]
SeedName = Annotated[str | None, Query(pattern=SEED, description="its id; none: seed- and its hash")]
PIECE = 1 << 20
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def list_models(
    context: RequestContext, session: InSession = None, limit: Limit = 100, after: After = None
) -> Response:
    """Lists models, newest first.

    `kept` is false if a model's bytes were deleted. Uploaded seeds that no session has used are at `/models/unused`.
    """
    where = {"session": session}
    if session is not None and not context.records.count(tables.MODELS, where):  # a forgotten session has models
        context.found(tables.SESSIONS, session, "session")
    found = page(context.records, tables.MODELS, where, order="created_at", descending=True, limit=limit, after=after)
    return Json(found)


@router.get("/unused")
def unused(context: RequestContext) -> Response:
    """Lists blobs in bucket `models` that no session has started from: the first 1,000 by name."""
    found: list[dict[str, Any]] = []
    for info in context.blobs.list(keys.ALL_MODELS):
        model = keys.model_id(info.key)
        if context.records.get(tables.MODELS, model) is None:
            found.append(unused_model(model, info.size, info.modified))
        if len(found) == MOST:
            break
    return Json({"items": found, "next": None})


@router.get("/last")
def last(context: RequestContext, session: InSession = None) -> Response:
    """Returns the newest model that a round made, of a session or of all sessions."""
    return Json(_newest(context, session))


@router.get("/best")
def best(
    context: RequestContext,
    session: InSession = None,
    metric: Annotated[str | None, Query(max_length=200, description="e.g. test/accuracy")] = None,
    mode: Annotated[Literal["max", "min"] | None, Query()] = None,
) -> Response:
    """Returns the best model of a session, by default of the newest session and by the selection of its policy."""
    if session is None:
        session = _newest(context, None)["session"]
    found = context.records.find(tables.MODELS, {"session": session}, order="round")
    is_forgotten = bool(found) and context.records.get(tables.SESSIONS, session) is None
    if is_forgotten:  # its policy is deleted, its models stay
        if metric is None or mode is None:
            raise NotFound(
                f"session {session!r} was forgotten, and its policy's `select` with it: give metric and mode"
            )
        return Json(best_model(found, metric, mode, False))
    policy = context.found(tables.SESSIONS, session, "session")["policy"]
    select = policy["select"]
    return Json(best_model(found, metric or select["metric"], mode or select["mode"], has_own_tensors(policy)))


@router.get("/{model}")
def one_model(context: RequestContext, model: ModelId) -> Response:
    """Returns a model's parent, session, round, ledger, and its metrics in the session that made it.

    A seed has no metrics of its own.
    """
    return Json(context.model(model))


@router.get("/{model}/trail")
def trail(context: RequestContext, model: ModelId, limit: Limit = 1000) -> Response:
    """Lists the model, its parent, its parent's parent, … to the seed. `next` is the first model of the next page."""
    found: list[dict[str, Any]] = []
    following: str | None = model
    while following is not None and len(found) < limit:
        found.append(context.model(following))
        following = found[-1]["parent"]
    return Json({"items": found, "next": following})


@router.get("/{model}/summaries")
def summaries(context: RequestContext, model: ModelId, limit: Limit = 1000, after: After = None) -> Response:
    """Lists the summary of the model's validations in each session that started from it."""
    return Json(page(context.records, tables.SUMMARIES, {"model": model}, order="at", limit=limit, after=after))


@router.get("/{model}/validations")
def validations(context: RequestContext, model: ModelId, limit: Limit = 1000, after: After = None) -> Response:
    """Lists the result of each client and evaluator, in `session`: the one that made the model or started from it."""
    return Json(page(context.records, tables.VALIDATIONS, {"model": model}, order="at", limit=limit, after=after))


@router.post(
    "", status_code=201, dependencies=GUARDED, openapi_extra={"requestBody": {"required": True, "content": BYTES}}
)
async def upload(context: RequestContext, request: Request, name: SeedName = None) -> Response:
    """Stores a seed; the body is safetensors. The same content under the same name again changes nothing."""
    context.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=context.scratch, suffix=".seed") as file:
        async for piece in request.stream():
            await run_in_threadpool(file.write, piece)
        await run_in_threadpool(file.flush)
        reference, is_new = await run_in_threadpool(_store_seed, context.blobs, Path(file.name), name)
    document = {**unused_model(keys.model_id(reference.key), reference.size, 0.0), "ref": reference.model_dump()}
    del document["created_at"]
    return Json(document, 201 if is_new else 200)


def _newest(context: ApiContext, session: str | None) -> dict[str, Any]:
    """Returns the newest model that a round made. Raises NotFound."""
    where = {"session": session} if session is not None else {}
    if session is not None and not context.records.count(tables.MODELS, where):  # a forgotten session has models only
        context.found(tables.SESSIONS, session, "session")
    for document in context.records.find(tables.MODELS, where, order="created_at", descending=True, limit=100):
        if document["session"] is not None:
            return document
    raise NotFound("no round has made a model yet" + (f" in session {session!r}" if session else ""))


def _store_seed(blobs: Blobs, file: Path, name: str | None = None) -> tuple[BlobRef, bool]:
    """Checks a safetensors file and puts it into bucket `models`. Returns its reference, and whether it is new.

    Raises InvalidUpdate, which says what was found instead of a model, and Refused if the name belongs to another model.
    """
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        stream.seek(0)
        head = stream.read(64)
    try:
        with Source(file) as source:
            fault = _fault(source, spec_of(source.tensors, source.meta))
    except InvalidUpdate as error:
        found = found_instead(head) or "bytes that are no known form of a model"
        raise InvalidUpdate(
            f"not a model: found {found}; safetensors is wanted, and `fedmq seed FILE` converts .npz, Keras and .pt "
            f"({error.reason})"
        ) from error
    if fault:
        raise InvalidUpdate(f"no session could start from this model: {fault}")
    key = keys.model_blob(name or keys.seed_model(sha256))
    reference = BlobRef(key=key, size=size, sha256=sha256)
    try:
        known = blobs.stat(key).size
    except NotFound:
        return blobs.put(key, file), True
    if known != size or _sha256(blobs, key, size) != sha256:
        raise Refused(f"there is another model called {name!r}: choose another name, or none")
    return reference, False


def _fault(source: Source, spec: Spec) -> str:
    """Returns why no session can start from the model, or an empty text."""
    if not source.tensors:
        return "it holds no tensors"
    try:
        check_roles_stated(source.tensors, source.meta)
    except InvalidUpdate as error:
        return error.reason
    buffer = np.empty(PIECE, np.uint8)
    for name, tensor in source.tensors.items():
        most = PIECE // tensor.dtype.itemsize
        is_number = tensor.dtype.kind == "f" and spec[name].role is not TensorRole.OPAQUE
        for first in range(0, tensor.count if is_number else 0, most):
            start, count = tensor.start + first * tensor.dtype.itemsize, min(most, tensor.count - first)
            if not np.isfinite(source.view(tensor.dtype, start, count, buffer)).all():
                return f"tensor {name!r} holds NaN or infinity"
    return ""


def _sha256(blobs: Blobs, key: str, size: int) -> str:
    digest = hashlib.sha256()
    for offset in range(0, size, PIECE):
        digest.update(blobs.read(key, offset, PIECE))
    return digest.hexdigest()
