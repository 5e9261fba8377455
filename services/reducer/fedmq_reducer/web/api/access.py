"""Refuses requests before an endpoint receives them, and distinguishes browsers from programs."""

from __future__ import annotations

import asyncio

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedmq.web.access import HEADERS, Access
from fedmq_reducer.web.api.answers import Json

LARGEST_BODY = 1 << 20
"""In bytes, of all requests but that which uploads a seed. A policy has some kB."""
SEEDS = "/models"
SILENT_SECONDS = 30.0
"""A request whose body does not go on for that long is refused."""


class Guard:
    """An ASGI middleware: refuses requests as `access` decides, and those with too large or too slow a body.

    It adds the headers that every answer has. `largest_seed`: in bytes.
    """

    def __init__(self, app: ASGIApp, access: Access, largest_seed: int) -> None:
        self._app = app
        self._access = access
        self._largest_seed = largest_seed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request, or lets the application answer it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app, headers = self._app, Headers(scope=scope)
        objection = self._access.objection(scope["path"], headers.get)
        if objection is not None:
            app = Json({"error": objection.reason}, objection.status, headers=objection.headers)
        await app(scope, self._bounded(scope["path"], headers, receive), send_with_headers)

    def _bounded(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """Returns `receive`, which raises HTTPException for a body that is too large or does not go on."""
        limit = self._largest_seed if path == SEEDS else LARGEST_BODY
        length = headers.get("content-length", "")
        left = limit - int(length) if length.isdecimal() else limit
        seen, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal seen, is_whole
            if is_whole:  # what follows is that the other side leaves, which may take long
                return await receive()
            if left < 0:
                raise _too_large(path, limit)
            try:
                message = await asyncio.wait_for(receive(), SILENT_SECONDS)
            except TimeoutError:
                raise HTTPException(408, f"the body did not go on for {SILENT_SECONDS:g} s: send it again") from None
            seen += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if seen > limit:
                raise _too_large(path, limit)
            return message

        return bounded


def _too_large(path: str, limit: int) -> HTTPException:
    if path == SEEDS:
        return HTTPException(
            413, f"the seed has more than {limit >> 20} MB: FEDN_SEED_LIMIT of the reducer sets the most"
        )
    return HTTPException(413, f"the body has more than {limit >> 10} kB: no policy is that long")


def check_may_change(request: Request) -> None:
    """Raises HTTPException unless the request may change something; see `Access.objection`."""
    access: Access = request.app.state.context.access
    objection = access.objection(request.url.path, request.headers.get, changes=True)
    if objection is not None:
        raise HTTPException(objection.status, objection.reason, objection.headers)


GUARDED = [Depends(check_may_change)]
"""The dependencies of an endpoint that changes something."""


def is_browser(request: Request) -> bool:
    """Returns whether a browser sends the request: it has headers of browsers, or prefers a page or an image."""
    headers = request.headers
    if "origin" in headers or any(name.startswith("sec-fetch-") for name in headers):
        return True
    best = max((_weighed(part) for part in headers.get("accept", "*/*").split(",")), key=lambda pair: pair[1])[0]
    return best.startswith("image/") or best in ("text/html", "application/xhtml+xml")


def _weighed(part: str) -> tuple[str, float]:
    """Returns the media type of a part of an `Accept` header, and its weight."""
    kind, *parameters = (word.strip() for word in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return kind.lower(), float(value)
            except ValueError:
                return kind.lower(), 0.0
    return kind.lower(), 1.0
