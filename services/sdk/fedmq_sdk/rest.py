"""Requests to a reducer's REST API over urllib3, whose errors are translated into FedMQ's."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from fedmq import tls
from fedmq.errors import ConfigError, FedMQError, Gone, NotFound, ProtocolError, Refused, Transient
from fedmq_sdk.in_process import InProcessPool
from fedmq_sdk.tables import Row, Table

PAGE = 1000
PIECE = 1 << 18
SILENCE = 45.0
"""Seconds without a sign of life on a stream; the server sends one every 15."""
PAUSE = 0.5
"""Seconds between two attempts at a request."""
REMEMBERED = 20_000
"""Number of events whose ids are kept, so that none is yielded twice after a lost connection."""


class Rest:
    """One server. Any thread may call; requests of several threads have no order.

    `certificate` is the PEM file of the only certificate that an https server may have. None accepts any trusted one.

    A GET that fails in passing is repeated for `patience` seconds: one that is answered with such a status (503 and the
    like), and one without an answer, if this server has given one before.

    An `application` (ASGI) answers in this process in the server's place.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout: float,
        certificate: Path | None = None,
        patience: float = 0.0,
        application: Any = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is not a URL: write it as http://HOST:8090")
        self._url = url
        self._timeout = timeout
        self._patience = patience
        self._has_answered = False
        self._headers = {"Accept": "application/json"}
        if token is not None:
            if not token.isascii() or not token.isprintable():
                raise ConfigError(
                    "the admin token (FEDN_ADMIN_TOKEN) may hold printable ASCII only: has it a line end?"
                )
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool: Any
        if application is not None:
            self._pool = InProcessPool(application)
        elif certificate is not None and url.startswith("https:"):
            self._pool = urllib3.PoolManager(
                retries=False, cert_reqs="NONE", assert_fingerprint=fingerprint(certificate)
            )
        else:
            self._pool = urllib3.PoolManager(retries=False, ssl_context=tls.context())

    def json(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Row:
        """Sends `body` as JSON and returns the answer's document."""
        data = None if body is None else _encoded(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        answer: Row = json.loads(self._data(method, path, query or {}, data, headers))
        return answer

    def items(self, path: str, query: Mapping[str, Any], limit: int | None) -> Table:
        """Returns all items of a list, requested page by page, at most `limit`."""
        found = Table()
        after: str | None = None
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            answer = self.json("GET", path, {**query, "limit": size, "after": after})
            found += answer["items"]
            after = answer["next"]
            if after is None:
                break
        return Table(found[:limit])

    def content(self, path: str) -> bytes:
        """Returns the bytes of an answer."""
        return self._data("GET", path, {}, None, {})

    def upload(self, path: str, query: Mapping[str, Any], data: bytes) -> Row:
        """Sends bytes and returns the answer's document."""
        answer: Row = json.loads(self._data("POST", path, query, data, {"Content-Type": "application/octet-stream"}))
        return answer

    def download(self, path: str, into: Path) -> str:
        """Writes an answer to a file piece by piece, and returns its sha256."""
        digest = hashlib.sha256()
        with self._translated(), into.open("wb") as file:
            response = self._request("GET", path, {}, None, {})
            for piece in response.stream(PIECE):
                file.write(piece)
                digest.update(piece)
        return digest.hexdigest()

    def follow(self, path: str, query: Mapping[str, Any], patience: float) -> Iterator[Row]:
        """Yields server-sent events, each id once. Makes a lost connection again for `patience` seconds."""
        seen: dict[str, None] = {}
        last: str | None = None
        alive_at = time.monotonic()
        while True:
            try:
                for document in self._stream(path, query, last):
                    alive_at = time.monotonic()
                    if document is None or document["id"] in seen:
                        continue
                    last = document["id"]
                    seen[last] = None
                    if len(seen) > REMEMBERED:
                        del seen[next(iter(seen))]
                    yield document
            except Transient:
                if time.monotonic() - alive_at > patience:
                    raise
            time.sleep(PAUSE)

    def _stream(self, path: str, query: Mapping[str, Any], last: str | None) -> Iterator[Row | None]:
        """Yields documents, and None for each sign of life."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last is not None else {})
        with self._translated():
            response = self._request("GET", path, query, None, headers, silence=SILENCE)
            try:
                rest = b""
                for piece in response.read_chunked():
                    *lines, rest = (rest + piece).split(b"\n")
                    yield None
                    for line in lines:
                        if line.startswith(b"data: "):
                            yield json.loads(line[6:])
            finally:
                response.close()

    def _data(self, method: str, path: str, query: Mapping[str, Any], body: Any, headers: Mapping[str, str]) -> bytes:
        with self._translated():
            response = self._request(method, path, query, body, headers)
            try:
                data: bytes = response.read()
                return data
            finally:
                response.release_conn()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any,
        headers: Mapping[str, str],
        silence: float | None = None,
    ) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        url = self._url + path + (f"?{urlencode(given, doseq=True)}" if given else "")
        timeout = urllib3.Timeout(connect=min(10.0, self._timeout), read=silence or self._timeout)
        ends = time.monotonic() + (self._patience if method == "GET" and silence is None else 0.0)
        while True:
            fault: Exception
            try:
                response = self._pool.request(
                    method,
                    url,
                    body=body,
                    headers=self._headers | dict(headers),
                    timeout=timeout,
                    preload_content=False,
                )
                self._has_answered = True
                if response.status < 300:
                    return response
                fault = _refusal(response.status, response.read(), self._url)
                is_passing = isinstance(fault, Transient)
            except HTTPError as error:
                fault = error
                is_passing = self._has_answered and not isinstance(error, LocationValueError | SSLError)
            if not is_passing or time.monotonic() >= ends:
                raise fault
            time.sleep(PAUSE)

    def _translated(self) -> _Translated:
        return _Translated(self._url)


class _Translated:
    """Translates urllib3's errors into Transient, or into ConfigError where a retry is of no use."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, LocationValueError):
            raise ConfigError(f"{self._url!r} is not a URL: write it as http://HOST:8090") from error
        if isinstance(error, SSLError):
            raise ConfigError(f"the reducer at {self._url} {_fault(error)}") from error
        if isinstance(error, HTTPError):
            cause = str(error).rpartition(": ")[2]
            raise Transient(
                f"no answer from {self._url} ({cause}): is a reducer there? `fedmq sandbox --package DIR --serve` runs "
                "one here; set FEDN_REDUCER_HOST and FEDN_REDUCER_PORT if it is elsewhere"
            ) from error


def _fault(error: SSLError) -> str:
    explained = tls.explain_certificate_error(error)
    if explained is not None:
        return f"{explained}, or is itself FEDN_REDUCER_TLS_CERT"
    if "Fingerprints did not match" in str(error):
        return "has another certificate than the one in FEDN_REDUCER_TLS_CERT: copy its own to that file"
    return f"speaks http and not https, or TLS of another kind ({error})"


def fingerprint(certificate: Path) -> str:
    """Returns the SHA-256 of the first certificate of a PEM file in hex. Raises ConfigError if it holds none."""
    try:
        text = certificate.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"FEDN_REDUCER_TLS_CERT={certificate} can't be read: {error.strerror}") from error
    found = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0] if found else "")).hexdigest()
    except ValueError as error:
        raise ConfigError(f"FEDN_REDUCER_TLS_CERT={certificate} holds no certificate in PEM") from error


def quoted(text: str, safe: str = "") -> str:
    """Returns a name as a part of an address."""
    return quote(text, safe=safe)


def checked_id(kind: str, text: str) -> str:
    """Returns `text`. Raises NotFound if no address can hold it, as then nothing has this id."""
    if not text or "/" in text:
        raise NotFound(f"there is no {kind} {text!r}")
    return text


def _encoded(body: Any) -> bytes:
    """Returns `body` as JSON, numpy's numbers and arrays as plain ones. Raises ConfigError for what JSON can't hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise ConfigError(f"{value!r:.60} is of type {type(value).__name__}: use numbers, texts, lists and dicts")

    try:
        return json.dumps(body, default=plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"this can't be sent as JSON: {error}") from error


def _refusal(status: int, body: bytes, url: str) -> FedMQError:
    try:
        text = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        text = f"{url} answered {status}, and is perhaps no reducer: {body[:200].decode(errors='replace')}"
    match status:
        case 404:
            return NotFound(text)
        case 410:
            return Gone(text)
        case 413 | 422:
            return ConfigError(text)
        case 408 | 429 | 500 | 502 | 503 | 504:
            return Transient(text)
        case 400 | 405 | 415:
            return ProtocolError(text)
    return Refused(text)
