"""Whom this process trusts over TLS: the system's authorities, and those of the file that FEDN_CA_FILE names.

One choice for the whole process, made before it connects, as broker, S3 server, presigned URLs, the reducer's REST API
and RabbitMQ's management API are all checked with it.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from pathlib import Path

from fedmq.errors import ConfigError

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's codes for what is wrong with a certificate."""

_ca_file: Path | None = None


def trust(ca_file: Path | None) -> None:
    """What `context` trusts from now on; None: the system's authorities alone. Idempotent.

    Raises `ConfigError` where the file can't be read or holds no certificate.
    """
    global _ca_file
    _context(ca_file)
    _ca_file = ca_file


def context() -> ssl.SSLContext:
    """For connections to servers, whose certificates and names are checked. The same one until `trust` is called."""
    return _context(_ca_file)


def explain_certificate_error(error: BaseException) -> str | None:
    """What is wrong with a server's certificate and what to do about it, where that is what a library's error is about;
    begins with a verb."""
    found = next((each for each in _wrapped(error) if isinstance(each, ssl.SSLCertVerificationError)), None)
    if found is None:
        return None
    if found.verify_code == _EXPIRED:
        return "has a certificate that has expired: renew it there"
    if found.verify_code == _NOT_YET_VALID:
        return "has a certificate that is not valid yet: compare this machine's clock"
    if found.verify_code in _OTHER_NAME:
        words = found.verify_message.rstrip(".")
        return f"has a certificate for another name ({words}): address it by a name that its certificate has"
    file = "the system's authorities" if _ca_file is None else f"{_ca_file} and the system's authorities"
    return (
        f"has a certificate that {file} do not vouch for ({found.verify_message}): FEDN_CA_FILE names the PEM file of "
        "the authority that signed it"
    )


@functools.lru_cache(maxsize=4)
def _context(ca_file: Path | None) -> ssl.SSLContext:
    made = ssl.create_default_context()
    if ca_file is not None:
        try:
            made.load_verify_locations(ca_file)
        except ssl.SSLError as error:
            raise ConfigError(f"FEDN_CA_FILE={ca_file} holds no certificate in PEM: {error.reason}") from error
        except OSError as error:
            raise ConfigError(f"FEDN_CA_FILE={ca_file} can't be read: {error.strerror}") from error
    return made


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """An error and all that libraries have put into it."""
    yield error
    inner = [getattr(error, "reason", None), *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    for each in (*inner, *error.args, error.__cause__):
        if isinstance(each, BaseException):
            yield from _wrapped(each)
