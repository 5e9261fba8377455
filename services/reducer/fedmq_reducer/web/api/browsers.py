"""Telling browsers from programs."""

from __future__ import annotations

from fastapi import Request


def is_browser(request: Request) -> bool:
    """By headers that only browsers send, or an `Accept` that prefers a page or an image."""
    headers = request.headers
    if "origin" in headers or any(name.startswith("sec-fetch-") for name in headers):
        return True
    best = max((_weighed(part) for part in headers.get("accept", "*/*").split(",")), key=lambda pair: pair[1])[0]
    return best.startswith("image/") or best in ("text/html", "application/xhtml+xml")


def _weighed(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return kind.lower(), float(value)
            except ValueError:
                return kind.lower(), 0.0
    return kind.lower(), 1.0
