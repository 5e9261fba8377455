"""What a check found: that a thing works, deserves a warning, or is faulty, with cause and remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fedmq.errors import FedMQError, Transient

ADDRESSES = {
    "broker": "FEDN_AMQP_URL",
    "blob store": "FEDN_MINIO_HOST, FEDN_MINIO_PORT and FEDN_MINIO_TLS",
    "record store": "FEDN_MONGO_HOST, FEDN_MONGO_PORT and FEDN_MONGO_TLS, or FEDN_MONGO_URL",
}
"""The settings to check if a server runs and yet does not answer."""

CheckResult = Literal["ok", "warning", "fault"]
Check = Callable[[], str]


class Notable(Exception):
    """Raised by a check for what works but deserves a warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `text` says what was found; for a fault, its cause and remedy."""

    what: str
    verdict: CheckResult
    text: str


def find(what: str, check: Check) -> Finding:
    """Runs one check. An error that is none of FedMQ's passes: it is a bug."""
    try:
        return Finding(what, "ok", check())
    except Notable as warning:
        return Finding(what, "warning", str(warning))
    except Transient as error:
        return Finding(what, "fault", f"{error.reason}: is it running? See {ADDRESSES.get(what, 'its log')}")
    except FedMQError as error:
        return Finding(what, "fault", error.reason)
