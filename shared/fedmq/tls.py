"""The certificate authorities that this process trusts: the system's, and those in the file FEDN_CA_FILE.

One choice for the whole process, made before it connects: the broker, the S3 server, MongoDB, presigned URLs, the reducer's
REST API and RabbitMQ's management API are all verified with it.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from fedmq.errors import ConfigError

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's codes for faults of a certificate."""

_CODES = {"has expired": _EXPIRED, "not yet valid": _NOT_YET_VALID, "mismatch": min(_OTHER_NAME)}
"""Words of OpenSSL's texts, and the codes that they stand for."""

_PLAIN = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
"""OpenSSL's reasons where the first bytes of an answer are not of TLS; which one depends on the bytes and its release."""

_ca_file: Path | None = None


def trust(ca_file: Path | None) -> None:
    """Sets the authorities that `context` trusts beside the system's. Idempotent. Raises `ConfigError` for a wrong file."""
    global _ca_file  # noqa: PLW0603 - one trust for the process, which libraries' callbacks read as well
    _context(ca_file)
    _ca_file = ca_file


def trusted_file() -> Path | None:
    """Returns the file that `trust` was given, for a library that makes a context of its own."""
    return _ca_file


def context() -> ssl.SSLContext:
    """Returns the context for connections to servers; it verifies certificates and host names."""
    return _context(_ca_file)


def explain_certificate_error(error: BaseException) -> str | None:
    """Returns the fault of a certificate and its remedy, beginning with a verb; None if the error has another cause."""
    found = next((each for each in _wrapped(error) if isinstance(each, ssl.SSLCertVerificationError)), None)
    if found is None:
        return None
    return _explained(found.verify_code, found.verify_message)


def explain_certificate_text(text: str) -> str | None:
    """Returns what `explain_certificate_error` does, for a library that keeps only the text of an error."""
    found = re.search(r"certificate verify failed: (.+?) \(_ssl\.c", text)
    if found is None:
        return None
    message = found[1]
    return _explained(next((code for words, code in _CODES.items() if words in message), 0), message)


def is_plain_answer(error: BaseException) -> bool:
    """Returns whether a connection over TLS failed because the server answered without TLS."""
    return any(isinstance(each, ssl.SSLError) and each.reason in _PLAIN for each in _wrapped(error))


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


def _explained(code: int, message: str) -> str:
    if code == _EXPIRED:
        return "has a certificate that has expired: renew it there"
    if code == _NOT_YET_VALID:
        return "has a certificate that is not valid yet: compare this machine's clock"
    if code in _OTHER_NAME:
        words = message.rstrip(".")
        return f"has a certificate for another name ({words}): address it by a name that its certificate has"
    file = "the system's authorities" if _ca_file is None else f"{_ca_file} and the system's authorities"
    return (
        f"has a certificate that {file} do not vouch for ({message}): FEDN_CA_FILE names the PEM file of "
        "the authority that signed it"
    )


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and all errors that libraries have wrapped in it."""
    yield error
    inner = [getattr(error, "reason", None), *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    for each in (*inner, *error.args, error.__cause__):
        if isinstance(each, BaseException):
            yield from _wrapped(each)
