"""HTTP requests that are repeated until they succeed, are refused, or time is up. Knows the error codes of S3.

The query of a presigned URL is a secret, so no error shows it.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError

from fedmq import tls
from fedmq.blobs.base import UrlExpired
from fedmq.connection_faults import fault
from fedmq.errors import ConfigError, NotFound, ProtocolError, Refused, Transient

PIECE = 256 * 1024
POOLED = 16
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"InternalError", "RequestTimeout", "SlowDown"})


def ignore(cause: str) -> None:
    """Ignores the cause of a repetition."""


class Attempts:
    """Repeats requests of one transfer, with pauses from 0.2 s, doubling to 5 s, until `timeout` seconds are over.

    `pause` may return early, as `Event.wait` does, or raise an error to give up. `clock` returns monotonic seconds.
    `on_fault` receives the cause of each repetition.
    """

    def __init__(
        self,
        timeout: float,
        pause: Callable[[float], object],
        clock: Callable[[], float],
        on_fault: Callable[[str], object] = ignore,
    ) -> None:
        self._on_fault = on_fault
        self._pause = pause
        self._clock = clock
        self._timeout = timeout
        self._end = clock() + timeout
        self._next = FIRST_PAUSE
        self._host = ""

    def left(self) -> float:
        """Returns the seconds left."""
        return self._end - self._clock()

    def check(self, cause: str = "the transfer is too slow") -> None:
        """Raises `Transient` if time is up."""
        if self.left() <= 0:
            raise Transient(f"given up after {self._timeout:g} s: {cause}")

    def until_done(self, attempt: Callable[[], str | None]) -> None:
        """Calls `attempt` until it returns None; a text, or a failed connection, is the reason for another attempt.

        Raises what `attempt` raises, and `Transient` when time is up.
        """
        while True:
            try:
                cause = attempt()
            except HTTPError as error:
                cause = f"the store at {self._host} {fault(error)}"
            if cause is None:
                return
            self.check(cause)
            self._on_fault(cause)
            self._pause(min(self._next, self.left()))
            self._next = min(LONGEST_PAUSE, self._next * 2)
            self.check(cause)

    @contextmanager
    def request(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Iterator[bytes] | bytes | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Sends one request, without retries or redirects. Reuses the connection if the whole response is read.

        Raises `ConfigError` if the server's certificate is not trusted.
        """
        scheme, host = _address(url)
        self._host = host
        left = max(0.01, self.left())
        try:
            response = _pool(_proxy(scheme, host), tls.context()).request(
                method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=min(ANSWER_SECONDS, left)),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except SSLError as error:
            explained = tls.explain_certificate_error(error)
            if explained is None:
                raise
            raise ConfigError(f"the store at {host} {explained}") from error
        try:
            yield response
        finally:
            if response.length_remaining == 0:
                response.release_conn()
            else:
                response.close()


def refusal(key: str, response: urllib3.BaseHTTPResponse) -> str:
    """Returns why the server refused a request that may succeed later. Else raises the error of the refusal."""
    found = re.search(rb"<Code>(\w+)</Code>", response.read(4096))
    code = found[1].decode() if found else ""
    words = f"{response.status} {code or response.reason} for {key}"
    if response.status in _TRANSIENT or code in _TRANSIENT_CODES:
        return words
    if response.status == 403:
        raise UrlExpired(f"the URL is no longer good: {words}")
    if response.status in (404, 410):
        raise NotFound(f"no such blob or bucket: {words}")
    raise Refused(f"the store refused: {words}")


def _address(url: str) -> tuple[str, str]:
    try:
        address = urllib3.util.parse_url(url)
    except LocationParseError:
        raise ProtocolError("can't follow what should be a URL and is none") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise ProtocolError(f"can't follow a URL of scheme {address.scheme!r}: http, https, file or memory")
    return address.scheme, address.host


def _proxy(scheme: str, host: str) -> str | None:
    proxies = getproxies()
    return None if proxy_bypass(host) else proxies.get(scheme) or proxies.get("all")


@functools.lru_cache(maxsize=4)
def _pool(proxy: str | None, context: ssl.SSLContext) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(maxsize=POOLED, blocksize=PIECE, ssl_context=context)
    try:
        auth = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=POOLED, blocksize=PIECE, ssl_context=context)
    except (HTTPError, AssertionError) as error:
        raise ConfigError(
            "the proxy that the environment names can't be used: only http:// and https:// can"
        ) from error
