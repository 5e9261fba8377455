"""The address of MongoDB: a host, the hosts of a replica set, or a URL with account and options."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fedmq import tls

SCHEMES = ("mongodb", "mongodb+srv")


def is_url(address: str) -> bool:
    """Returns whether `address` is a URL, which holds everything about the connection."""
    return "://" in address


def hosts(address: str) -> str:
    """Returns the hosts of an address, without account, password and options: what messages may show."""
    return address.partition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0] or address


def trust_options(address: str, use_tls: bool) -> dict[str, Any]:
    """Returns pymongo's options for TLS. A URL's own `tls` and `tlsCAFile` precede FEDN_CA_FILE.

    pymongo trusts one file or the system's authorities, never both.
    """
    own = {}
    if is_url(address):
        parts = urlsplit(address)
        own = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
        use_tls = own.get("tls", own.get("ssl", str(parts.scheme == "mongodb+srv").lower())) == "true"
    if not use_tls:
        return {}
    file = tls.trusted_file()
    return {"tls": True} if file is None or "tlscafile" in own else {"tls": True, "tlsCAFile": str(file)}
