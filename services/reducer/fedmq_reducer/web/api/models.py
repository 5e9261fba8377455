"""The trail of models: list, find, download, upload."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from fedmq.errors import NotFound
from fedmq_reducer.retention import check_kept
from fedmq_reducer.selection import best_model
from fedmq_reducer.web.api.answers import MOST, SEED, SESSION, After, Json, Limit, ModelId, page
from fedmq_reducer.web.api.blobs import streamed
from fedmq_reducer.web.api.context import ApiContext, unused_model
from fedmq_reducer.web.api.seeds import store_seed
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef

InSession = Annotated[str | None, Query(pattern=SESSION, description="only models of this session")]
SeedName = Annotated[str | None, Query(pattern=SEED, description="its id; none: seed- and its hash")]


def models(context: ApiContext, guard: Callable[[Request], None]) -> APIRouter:
    router = APIRouter(prefix="/models", tags=["models"])
    records, blobs = context.records, context.blobs

    @router.get("")
    def list_models(session: InSession = None, limit: Limit = 100, after: After = None) -> Response:
        """Newest first. `kept` is false where a model's bytes were let go. Uploaded seeds that no session has used are at
        `/models/unused`."""
        if session is not None:
            context.found(tables.SESSIONS, session, "session")
        return Json(
            page(
                records, tables.MODELS, {"session": session}, order="created_at", descending=True, limit=limit,
                after=after,
            )
        )  # fmt: skip

    @router.get("/unused")
    def unused() -> Response:
        """Blobs in bucket `models` that no session has started from; the first 1,000 by name."""
        found: list[dict[str, Any]] = []
        for info in blobs.list(keys.ALL_MODELS):
            model = keys.model_id(info.key)
            if records.get(tables.MODELS, model) is None:
                found.append(unused_model(model, info.size, info.modified))
            if len(found) == MOST:
                break
        return Json({"items": found, "next": None})

    @router.get("/last")
    def last(session: InSession = None) -> Response:
        """The newest model that a round made, of a session or of all."""
        return Json(_newest(session))

    @router.get("/best")
    def best(
        session: InSession = None,
        metric: Annotated[str | None, Query(max_length=200, description="e.g. test/accuracy")] = None,
        mode: Annotated[Literal["max", "min"] | None, Query()] = None,
    ) -> Response:
        """The best model of a session (the newest one if none is named), by its policy's selection unless told."""
        if session is None:
            session = _newest(None)["session"]
        document = context.found(tables.SESSIONS, session, "session")
        found = records.find(tables.MODELS, {"session": session}, order="round")
        select = document["policy"]["select"]
        return Json(best_model(found, metric or select["metric"], mode or select["mode"]))

    @router.get("/{model}")
    def one_model(model: ModelId) -> Response:
        """Its parent, session, round, ledger, and the summary of its validations in the session that made it; a seed has
        none of its own."""
        return Json(context.model(model))

    @router.get("/{model}/trail")
    def trail(model: ModelId, limit: Limit = 1000) -> Response:
        """The model, its parent, its parent's parent, … to the seed. `next` is where to ask on."""
        found: list[dict[str, Any]] = []
        following: str | None = model
        while following is not None and len(found) < limit:
            found.append(context.model(following))
            following = found[-1]["parent"]
        return Json({"items": found, "next": following})

    @router.get("/{model}/summaries")
    def summaries(model: ModelId, limit: Limit = 1000, after: After = None) -> Response:
        """The summary of its validations in each session that started from it."""
        return Json(page(records, tables.SUMMARIES, {"model": model}, order="at", limit=limit, after=after))

    @router.get("/{model}/validations")
    def validations(model: ModelId, limit: Limit = 1000, after: After = None) -> Response:
        """What each client and evaluator found, in `session`: the one that made it, or one that started from it."""
        return Json(page(records, tables.VALIDATIONS, {"model": model}, order="at", limit=limit, after=after))

    @router.get(
        "/{model}/download",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"application/octet-stream": {}}, "description": "safetensors"},
            410: {"description": "its session's retention has let it go"},
        },
    )
    def download(model: ModelId) -> Response:
        """The model as safetensors; what its base holds is not in it. `X-Content-SHA256` is the recorded hash. 410: it was
        let go."""
        found = context.model(model)
        check_kept(found)
        return _streamed(found["ref"], f"{model}.safetensors")

    @router.get(
        "/{model}/base",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/octet-stream": {}}, "description": "safetensors"}},
    )
    def base(model: ModelId) -> Response:
        """Its local and frozen tensors, where the session's policy has such: they don't travel with each model. Local ones
        are as the seed had them."""
        reference = context.model(model)["base"]
        if reference is None:
            raise NotFound(f"{model!r} is whole: it has no base")
        return _streamed(reference, f"{model}-base.safetensors")

    @router.get("/{model}/ledger")
    def ledger(model: ModelId) -> Response:
        """What became of every task of its round, with the exponents used: enough to recompute the sum. JSON."""
        reference = context.model(model)["ledger"]
        if reference is None:
            raise NotFound(f"{model!r} is a seed: no round made it, so it has no ledger")
        return Response(blobs.get(BlobRef.model_validate(reference).key), media_type="application/json")

    @router.post(
        "",
        status_code=201,
        dependencies=[Depends(guard)],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(request: Request, name: SeedName = None) -> Response:
        """Stores a seed, the body being safetensors. The same content under the same name again changes nothing."""
        context.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=context.scratch, suffix=".seed") as file:
            async for piece in request.stream():
                await run_in_threadpool(file.write, piece)
            await run_in_threadpool(file.flush)
            reference, is_new = await run_in_threadpool(store_seed, blobs, Path(file.name), name)
        document = {**unused_model(keys.model_id(reference.key), reference.size, 0.0), "ref": reference.model_dump()}
        del document["created_at"]
        return Json(document, 201 if is_new else 200)

    def _newest(session: str | None) -> dict[str, Any]:
        if session is not None:
            context.found(tables.SESSIONS, session, "session")
        where = {"session": session} if session is not None else {}
        for document in records.find(tables.MODELS, where, order="created_at", descending=True, limit=100):
            if document["session"] is not None:
                return document
        raise NotFound("no round has made a model yet" + (f" in session {session!r}" if session else ""))

    def _streamed(reference: dict[str, Any], name: str) -> Response:
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        if reference["sha256"]:
            headers["X-Content-SHA256"] = reference["sha256"]
        return streamed(blobs, reference["key"], reference["size"], headers)

    return router
