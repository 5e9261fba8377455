"""Who may send a request to a port: one decision for the REST API, the dashboard and the health page of every role.

- Beyond this machine every request needs a token, but `/health` and `/ready`, which orchestrators request without one.
- A port that only this machine reaches needs no token to read. A browser on this machine reaches it too, for any page of
  the web: so a request must name this machine, as a name of the page's owner may lead here (DNS rebinding).
- A change needs the token wherever there is one, and a browser's change must come from a page of this server.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

OPEN = ("/health", "/ready")
"""Paths that need no token anywhere. What they show holds no data of clients."""
METRICS = "/metrics"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
"""Headers of every answer. A page has a content security policy of its own."""

Header = Callable[[str], str | None]
"""Returns the value of a request's header, or None. The case of the name does not matter."""


class Objection(NamedTuple):
    """Why a request is refused: its status, the reason with the remedy, and further headers of the answer."""

    status: int
    reason: str
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use one port.

    - `token`: opens everything. With None, nothing but `is_local` limits changes.
    - `metrics_token`: opens `/metrics` and nothing else.
    - `is_local`: only this machine reaches the port.
    - `names`: further names of this machine.
    - `in_container`: so are names without a dot, which the network of a container engine gives to its services.
    """

    token: str | None = field(default=None, repr=False)
    metrics_token: str | None = field(default=None, repr=False)
    is_local: bool = True
    names: frozenset[str] = frozenset()
    in_container: bool = False

    def objection(self, path: str, header: Header, *, changes: bool = False) -> Objection | None:
        """Returns why the request is refused, or None. `changes`: it would change something."""
        if self.is_local and not self._is_named(header("host")):
            return Objection(421, "this port answers to names of this machine only, such as localhost")
        if changes and not _is_same_site(header):
            return Objection(403, "a page of another site may not change anything here")
        if self.is_local and not (changes and self.token is not None):
            return None
        if path in OPEN and not changes:
            return None
        is_metrics = path == METRICS and not changes
        tokens = [self.token, self.metrics_token if is_metrics else None]
        given = given_token(header)
        if any(each is not None and secrets.compare_digest(given.encode(), each.encode()) for each in tokens):
            return None
        wanted = "the token of metrics (FEDN_HEALTH_TOKEN)" if is_metrics else "the admin token (FEDN_ADMIN_TOKEN)"
        fault = "the token sent is another one" if given else "none was sent"
        return Objection(401, f"this needs {wanted}: {fault}", {"WWW-Authenticate": 'Basic realm="FedMQ"'})

    def _is_named(self, host: str | None) -> bool:
        """Returns whether `Host` names this machine. An address does: only a name can lead elsewhere later."""
        if host is None:  # a browser always sends it
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        except ValueError:
            return False
        is_service = self.in_container and bool(name) and "." not in name
        return name == "localhost" or name in self.names or is_service or is_address(name)


def given_token(header: Header) -> str:
    """Returns the token that a request carries, as bearer or as the password of basic authentication; else empty."""
    scheme, _, value = (header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def is_address(host: str) -> bool:
    """Returns whether `host` is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches what listens on `host`."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_same_site(header: Header) -> bool:
    if (header("sec-fetch-site") or "none") not in ("same-origin", "none"):
        return False
    origin = header("origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == (header("host") or "").lower()
    except ValueError:  # no address at all, such as `http://[::1`
        return False
