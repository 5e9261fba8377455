"""Refuses requests before an endpoint sees them, and tells browsers from programs."""

from __future__ import annotations

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedmq.web.access import HEADERS, Access
from fedmq_reducer.web.api.answers import Json


class Guard:
    """An ASGI middleware: refuses requests as `access` decides, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request, or lets the application answer it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._app
        objection = self._access.objection(scope["path"], Headers(scope=scope).get)
        if objection is not None:
            app = Json({"error": objection.reason}, objection.status, headers=objection.headers)
        await app(scope, receive, send_with_headers)


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
