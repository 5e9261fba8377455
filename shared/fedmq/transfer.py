"""Follows presigned URLs, in both directions, with no credentials: all that a client does with blobs.

`http(s)://` over one pool of connections (proxies from the environment), `file://` and `memory://` for the embedded
stores that this process has open. What may pass by itself (no connection, a broken one, 408, 429, 5xx) is tried again,
after 0.2 s, doubling to 5 s, until `timeout` is over; then it is `Transient`.
"""

from __future__ import annotations

import functools
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, overload
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from fedmq.blobs import files, memory
from fedmq.blobs.base import Source
from fedmq.blobs.keys import check_size
from fedmq.blobs.landing import Landing
from fedmq.errors import ConfigError, NotFound, ProtocolError, Refused, Transient
from fedmq_schemas.messages import BlobRef

PIECE = 256 * 1024
POOLED = 16
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_AGAIN_CODES = frozenset({"RequestTimeout", "SlowDown"})

Progress = Callable[[int, int], None]


class UrlExpired(Refused):
    """The server refuses the URL: it is too old, or was never good. Ask for a fresh one."""


class Attempts:
    """Paces what is tried again: `wait(cause)` pauses, or raises `Transient` when no time is left.

    `pause` may return early (an `Event.wait`), or raise to give up.
    """

    def __init__(self, timeout: float, pause: Callable[[float], object], clock: Callable[[], float]) -> None:
        self._pause = pause
        self._clock = clock
        self._timeout = timeout
        self._end = clock() + timeout
        self._next = FIRST_PAUSE

    def left(self) -> float:
        return self._end - self._clock()

    def check(self, cause: str = "the transfer is too slow") -> None:
        if self.left() <= 0:
            raise Transient(f"given up after {self._timeout:g} s: {cause}")

    def wait(self, cause: str) -> None:
        self.check(cause)
        self._pause(min(self._next, self.left()))
        self._next = min(LONGEST_PAUSE, self._next * 2)
        self.check(cause)


@overload
def get(
    ref: BlobRef,
    url: str,
    into: None = None,
    *,
    timeout: float = ...,
    progress: Progress | None = ...,
    pause: Callable[[float], object] = ...,
    clock: Callable[[], float] = ...,
) -> bytes: ...
@overload
def get(
    ref: BlobRef,
    url: str,
    into: Path,
    *,
    timeout: float = ...,
    progress: Progress | None = ...,
    pause: Callable[[float], object] = ...,
    clock: Callable[[], float] = ...,
) -> Path: ...
def get(
    ref: BlobRef,
    url: str,
    into: Path | None = None,
    *,
    timeout: float = 300.0,
    progress: Progress | None = None,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bytes | Path:
    """The blob `ref` from `url`: its bytes, or with `into` a file that holds them.

    The file is `into`, whole or absent; for a `file://` URL it is the blob's own file, not copied: only read it. Size
    is checked first, sha256 while it comes; after a broken connection the transfer goes on where it stopped.
    `progress(bytes so far, all bytes)` is called for every piece; what it raises ends the transfer.
    Raises `InvalidUpdate` if the content is not what `ref` says, `UrlExpired`, `NotFound`, other `Refused`, and
    `Transient` after `timeout` seconds.
    """
    scheme = url.partition("://")[0]
    if scheme == "file":
        path = files.open_url(url, ref.key).fetch(ref, Path())
        return path if into is not None else path.read_bytes()
    with Landing(ref, into) as landing:
        if scheme == "memory":
            landing.write(_memory(url, "get", ref.key).get(ref.key))
        else:
            _download(landing, ref, url, Attempts(timeout, pause, clock), progress)
        return landing.finish()


def put(
    key: str,
    url: str,
    source: Source,
    *,
    timeout: float = 300.0,
    progress: Progress | None = None,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> BlobRef:
    """Puts bytes or a file under `key`, where the presigned `url` leads, and returns its reference.

    The blob is there whole or not at all. Raises as `get` does; a URL for another key is `Refused`.
    """
    scheme = url.partition("://")[0]
    if scheme == "file":
        return files.open_url(url, key).put(key, source)
    if scheme == "memory":
        return _memory(url, "put", key).put(key, source)
    ref = _reference(key, source)
    _upload(ref, url, source, Attempts(timeout, pause, clock), progress)
    return ref


def _memory(url: str, method: str, key: str) -> memory.MemoryBlobs:
    store = memory.open_url(url, method, key)
    if store is None:
        raise UrlExpired(f"the URL to {method} {key} has expired")
    return store


def _reference(key: str, source: Source) -> BlobRef:
    if isinstance(source, bytes):
        return BlobRef(key=key, size=len(source), sha256=hashlib.sha256(source).hexdigest())
    try:
        with open(source, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return BlobRef(key=key, size=file.tell(), sha256=sha256)
    except FileNotFoundError:
        raise NotFound(f"there is no file {source} to send") from None


def _download(landing: Landing, ref: BlobRef, url: str, attempts: Attempts, progress: Progress | None) -> None:
    while True:
        offset = landing.received
        try:
            with _request("GET", url, attempts, {"Range": f"bytes={offset}-"} if offset else {}) as response:
                if response.status in (200, 206):
                    if response.status == 200 and offset:  # the server does not resume
                        landing.restart()
                    length = response.headers.get("Content-Length")
                    if length is not None:
                        check_size(ref, landing.received + int(length))
                    for piece in response.stream(PIECE, decode_content=False):
                        landing.write(piece)
                        if progress is not None:
                            progress(landing.received, ref.size)
                        attempts.check()
                    if landing.received == ref.size:
                        return
                    cause = f"only {landing.received} of {ref.size} bytes came"
                else:
                    cause = _cause(ref.key, response)
        except urllib3.exceptions.HTTPError as error:
            cause = _words(error)
        attempts.wait(cause)


def _upload(ref: BlobRef, url: str, source: Source, attempts: Attempts, progress: Progress | None) -> None:
    headers = {"Content-Length": str(ref.size), "Content-Type": "application/octet-stream"}
    while True:
        try:
            with (
                BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as body,
                _request("PUT", url, attempts, headers, _pieces(body, ref.size, attempts, progress)) as response,
            ):
                if response.status in (200, 201, 204):
                    return
                cause = _cause(ref.key, response)
        except urllib3.exceptions.HTTPError as error:
            cause = _words(error)
        attempts.wait(cause)


def _pieces(body: IO[bytes], size: int, attempts: Attempts, progress: Progress | None) -> Iterator[bytes]:
    sent = 0
    while piece := body.read(PIECE):
        yield piece
        sent += len(piece)
        if progress is not None:
            progress(sent, size)
        attempts.check()


@contextmanager
def _request(
    method: str, url: str, attempts: Attempts, headers: dict[str, str], body: Iterator[bytes] | None = None
) -> Iterator[urllib3.BaseHTTPResponse]:
    """One request, with no retries or redirects of urllib3's own, whose connection goes back to the pool if all of the
    answer was read."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ProtocolError(f"can't follow a URL of scheme {address.scheme!r}: http, https, file or memory")
    proxies = getproxies()
    proxy = None if proxy_bypass(address.hostname) else proxies.get(address.scheme) or proxies.get("all")
    left = max(0.01, attempts.left())
    response = _pool(proxy).request(
        method,
        url,
        body=body,
        headers=headers,
        timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=min(ANSWER_SECONDS, left)),
        retries=False,
        redirect=False,
        preload_content=False,
    )
    try:
        yield response
    finally:
        if response.length_remaining == 0:
            response.release_conn()
        else:
            response.close()


@functools.lru_cache(maxsize=4)
def _pool(proxy: str | None) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(maxsize=POOLED, blocksize=PIECE)
    try:
        auth = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=POOLED, blocksize=PIECE)
    except (urllib3.exceptions.HTTPError, AssertionError) as error:
        raise ConfigError(
            "the proxy that the environment names can't be used: only http:// and https:// can"
        ) from error


def _cause(key: str, response: urllib3.BaseHTTPResponse) -> str:
    """Why the server said no, if it may say yes later; else raises what fits."""
    found = re.search(rb"<Code>(\w+)</Code>", response.read(4096))
    code = found[1].decode() if found else ""
    words = f"{response.status} {code or response.reason} for {key}"
    if response.status in _AGAIN or code in _AGAIN_CODES:
        return words
    if response.status == 403:
        raise UrlExpired(f"the URL is no longer good: {words}")
    if response.status in (404, 410):
        raise NotFound(f"no such blob or bucket: {words}")
    raise Refused(f"the store refused: {words}")


def _words(error: Exception) -> str:
    """What went wrong, without the query of a URL, which is a secret."""
    return re.sub(r"\?\S*", "?…", f"{type(error).__name__}: {error}")
