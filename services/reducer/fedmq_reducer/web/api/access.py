"""Who may change what."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "testserver"})


def changes_allowed(token: str | None) -> Callable[[Request], None]:
    """The guard of every request that changes something.

    With a token it must come as `Authorization: Bearer TOKEN`, or as the password of basic authentication, which
    browsers ask for. A browser's request must come from a page of this server: other pages' are refused, with a token
    or without.
    """

    def guard(request: Request) -> None:
        if not _is_same_site(request):
            raise HTTPException(403, "a page of another site may not change anything here")
        given = _given(request)
        if token is not None and not secrets.compare_digest(given.encode(), token.encode()):
            challenge = {"WWW-Authenticate": 'Basic realm="FedMQ"'}
            fault = "the token that came is another" if given else "none came"
            raise HTTPException(401, f"this needs the reducer's admin token (FEDN_ADMIN_TOKEN): {fault}", challenge)

    return guard


def named_locally(request: Request) -> bool:
    """Whether the request names this machine: a page that has its own name point here does not."""
    host = request.headers.get("host", "").lower()
    return (host if host.endswith("]") else host.rpartition(":")[0] or host) in LOCAL


def _is_same_site(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


def _given(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
