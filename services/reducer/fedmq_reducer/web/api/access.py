"""Who sends a request: a browser or a program, and whether it may change anything."""

from __future__ import annotations

import base64
import binascii
import secrets
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "testserver"})


def check_may_change(request: Request) -> None:
    """Raises HTTPException unless the request may change something.

    - A browser's request must come from a page of this server, with a token or without.
    - If the server has an admin token, the request must carry it: as `Authorization: Bearer TOKEN`, or as the password of
      basic authentication, which browsers ask for.
    """
    if not _is_same_site(request):
        raise HTTPException(403, "a page of another site may not change anything here")
    token: str | None = request.app.state.context.admin_token
    given = _given(request)
    if token is not None and not secrets.compare_digest(given.encode(), token.encode()):
        challenge = {"WWW-Authenticate": 'Basic realm="FedMQ"'}
        fault = "the token sent is another one" if given else "none was sent"
        raise HTTPException(401, f"this needs the reducer's admin token (FEDN_ADMIN_TOKEN): {fault}", challenge)


GUARDED = [Depends(check_may_change)]
"""The dependencies of an endpoint that changes something."""


def is_named_locally(request: Request) -> bool:
    """Returns whether the request names this machine. A page whose own host name points to this machine does not."""
    host = request.headers.get("host", "").lower()
    return (host if host.endswith("]") else host.rpartition(":")[0] or host) in LOCAL


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


def _is_same_site(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


def _given(request: Request) -> str:
    """Returns the token that the request carries, or an empty text."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
