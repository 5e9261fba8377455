"""Transfers over presigned URLs, without credentials: a client's only access to blobs.

`http(s)://` URLs are followed over one pool of connections, with the proxies of the environment. `file://` and
`memory://` URLs lead to embedded stores of this process. Faults that may pass (no connection, a broken connection,
status 408, 425, 429 or 5xx) are retried after 0.2 s, doubling to 5 s, until `timeout` seconds are over. Then `Transient`
is raised. `on_fault` receives the cause of each repetition. All functions raise `UrlExpired`, `NotFound` and `Refused` as
the store answers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path

from fedmq.blobs import files, memory
from fedmq.blobs.base import BlobSource
from fedmq.blobs.checks import IncomingBlob, check_size, opened
from fedmq.blobs.http import PIECE, Attempts, ignore, refusal
from fedmq.errors import ProtocolError
from fedmq_schemas.messages import BlobRef


def get(
    ref: BlobRef,
    url: str,
    *,
    timeout: float = 300.0,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    on_fault: Callable[[str], object] = ignore,
) -> bytes:
    """Returns the bytes of the blob `ref` from `url`. Raises `InvalidUpdate` if size or SHA-256 differ from `ref`.

    The size is checked first. After a broken connection the transfer resumes where it stopped.
    """
    if url.startswith("file://"):
        return files.open_url(url, ref.key).load(ref)
    with IncomingBlob(ref) as incoming:
        _download(incoming, ref, url, Attempts(timeout, pause, clock, on_fault))
        return incoming.finish()


def fetch(
    ref: BlobRef,
    url: str,
    into: Path,
    *,
    timeout: float = 300.0,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    on_fault: Callable[[str], object] = ignore,
) -> Path:
    """Downloads the blob `ref` as `get` does, into the file `into`, whole or not at all, and returns its path.

    For a `file://` URL it is the blob's own file, which the caller must not change.
    """
    if url.startswith("file://"):
        return files.open_url(url, ref.key).fetch(ref, into)
    with IncomingBlob(ref, into) as incoming:
        _download(incoming, ref, url, Attempts(timeout, pause, clock, on_fault))
        incoming.finish()
    return into


def put(
    key: str,
    url: str,
    source: BlobSource,
    headers: Mapping[str, str] = {},
    *,
    timeout: float = 300.0,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    on_fault: Callable[[str], object] = ignore,
) -> BlobRef:
    """Uploads bytes or a file to the presigned `url`, whole or not at all. Raises `Refused` for another key's URL.

    `headers`: those that the URL's signature binds, with lower-case names.
    """
    if url.startswith("file://"):
        return files.open_url(url, key).put(key, source)
    if url.startswith("memory://"):
        return memory.put_url(url, key, source)
    attempts = Attempts(timeout, pause, clock, on_fault)
    with opened(source) as (body, size):
        ref = BlobRef(key=key, size=size, sha256=hashlib.file_digest(body, "sha256").hexdigest())
        sent = {"content-length": str(size), "content-type": "application/octet-stream", **headers}
        _put(ref, url, body, sent, attempts)
    return ref


def _download(incoming: IncomingBlob, ref: BlobRef, url: str, attempts: Attempts) -> None:
    if url.startswith("memory://"):
        incoming.write(memory.open_url(url, "get", ref.key).get(ref.key))
        return

    def attempt() -> str | None:
        offset = incoming.received
        with attempts.request("GET", url, {"Range": f"bytes={offset}-"} if offset else {}) as response:
            if response.status not in (200, 206):
                return refusal(ref.key, response)
            if response.status == 200 and offset:  # the server does not resume
                incoming.restart()
            length = response.headers.get("Content-Length")
            if length is not None:
                check_size(ref, incoming.received + int(length))
            for piece in response.stream(PIECE, decode_content=False):
                attempts.check()
                incoming.write(piece)
        return None if incoming.received == ref.size else f"only {incoming.received} of {ref.size} bytes arrived"

    attempts.until_done(attempt)


def _put(ref: BlobRef, url: str, body: BufferedIOBase, headers: Mapping[str, str], attempts: Attempts) -> None:
    def pieces() -> Iterator[bytes]:
        body.seek(0)
        left = ref.size
        while left:
            attempts.check()
            piece = body.read(min(PIECE, left))
            if not piece:
                raise ProtocolError("the file became shorter while it was sent")
            yield piece
            left -= len(piece)

    def attempt() -> str | None:
        with attempts.request("PUT", url, dict(headers), pieces()) as response:
            return None if response.status in (200, 201, 204) else refusal(ref.key, response)

    attempts.until_done(attempt)
