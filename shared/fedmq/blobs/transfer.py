"""Follows presigned URLs, in both directions, with no credentials: all that a client does with blobs.

`http(s)://` over one pool of connections (proxies from the environment), `file://` and `memory://` for the embedded
stores that this process has open. What may pass by itself (no connection, a broken one, 408, 429, 5xx) is tried again,
after 0.2 s, doubling to 5 s, until `timeout` is over; then it is `Transient`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, overload
from xml.sax.saxutils import escape

from pydantic import ValidationError

from fedmq.blobs import files, memory
from fedmq.blobs.base import BlobSource
from fedmq.blobs.http import PIECE, Attempts, refusal
from fedmq.blobs.http import UrlExpired as UrlExpired
from fedmq.blobs.incoming import IncomingBlob
from fedmq.blobs.keys import check_size
from fedmq.blobs.parts import FRAGMENT, LONGEST_PLAN, UploadPlan
from fedmq.errors import NotFound, ProtocolError, Refused
from fedmq_schemas.messages import BlobRef

TransferProgress = Callable[[int, int], None]

_S3 = "http://s3.amazonaws.com/doc/2006-03-01/"


@overload
def get(
    ref: BlobRef,
    url: str,
    into: None = None,
    *,
    timeout: float = ...,
    progress: TransferProgress | None = ...,
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
    progress: TransferProgress | None = ...,
    pause: Callable[[float], object] = ...,
    clock: Callable[[], float] = ...,
) -> Path: ...
def get(
    ref: BlobRef,
    url: str,
    into: Path | None = None,
    *,
    timeout: float = 300.0,
    progress: TransferProgress | None = None,
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
    with IncomingBlob(ref, into) as landing:
        if scheme == "memory":
            landing.write(_memory(url, "get", ref.key).get(ref.key))
        else:
            _download(landing, ref, url, Attempts(timeout, pause, clock), progress)
        return landing.finish()


def put(
    key: str,
    url: str,
    source: BlobSource,
    *,
    timeout: float = 300.0,
    progress: TransferProgress | None = None,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> BlobRef:
    """Puts bytes or a file under `key`, where the presigned `url` leads, and returns its reference.

    The blob is there whole or not at all. Where the URL leads to a plan of parts, a broken part is sent again, not all.
    Raises as `get` does; a URL for another key is `Refused`.
    """
    scheme = url.partition("://")[0]
    if scheme == "file":
        return files.open_url(url, key).put(key, source)
    if scheme == "memory":
        return _memory(url, "put", key).put(key, source)
    ref = _reference(key, source)
    attempts = Attempts(timeout, pause, clock)
    told = _Told(ref.size, attempts, progress)
    with BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as body:
        if url.endswith(FRAGMENT):
            _upload_parts(ref, url.removesuffix(FRAGMENT), body, attempts, told)
        else:
            _send(ref.key, url, body, 0, ref.size, attempts, told)
    return ref


def _memory(url: str, method: str, key: str) -> memory.MemoryBlobs:
    store = memory.open_url(url, method, key)
    if store is None:
        raise UrlExpired(f"the URL to {method} {key} has expired")
    return store


def _reference(key: str, source: BlobSource) -> BlobRef:
    if isinstance(source, bytes):
        return BlobRef(key=key, size=len(source), sha256=hashlib.sha256(source).hexdigest())
    try:
        with open(source, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return BlobRef(key=key, size=file.tell(), sha256=sha256)
    except FileNotFoundError:
        raise NotFound(f"there is no file {source} to send") from None


def _download(
    landing: IncomingBlob, ref: BlobRef, url: str, attempts: Attempts, progress: TransferProgress | None
) -> None:
    def turn() -> str | None:
        offset = landing.received
        with attempts.request("GET", url, {"Range": f"bytes={offset}-"} if offset else {}) as response:
            if response.status not in (200, 206):
                return refusal(ref.key, response)
            if response.status == 200 and offset:  # the server does not resume
                landing.restart()
            length = response.headers.get("Content-Length")
            if length is not None:
                check_size(ref, landing.received + int(length))
            for piece in response.stream(PIECE, decode_content=False):
                attempts.check()
                landing.write(piece)
                if progress is not None:
                    progress(landing.received, ref.size)
        return None if landing.received == ref.size else f"only {landing.received} of {ref.size} bytes came"

    attempts.until_done(turn)


class _Told:
    """Counts what is sent, tells it, and stops when time is up."""

    def __init__(self, size: int, attempts: Attempts, progress: TransferProgress | None) -> None:
        self._size = size
        self._attempts = attempts
        self._progress = progress

    def pieces(self, body: IO[bytes], offset: int, length: int) -> Iterator[bytes]:
        body.seek(offset)
        end = offset + length
        while offset < end:
            self._attempts.check()
            piece = body.read(min(PIECE, end - offset))
            if not piece:
                raise ProtocolError("the file became shorter while it was sent")
            yield piece
            offset += len(piece)
            if self._progress is not None:
                self._progress(offset, self._size)


def _send(key: str, url: str, body: IO[bytes], offset: int, length: int, attempts: Attempts, told: _Told) -> str:
    """Puts a part of `body`; returns the ETag that it got."""
    headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
    etags: list[str] = []

    def turn() -> str | None:
        with attempts.request("PUT", url, headers, told.pieces(body, offset, length)) as response:
            if response.status not in (200, 201, 204):
                return refusal(key, response)
            etags.append(response.headers.get("ETag", ""))
        return None

    attempts.until_done(turn)
    return etags[-1]


def _upload_parts(ref: BlobRef, url: str, body: IO[bytes], attempts: Attempts, told: _Told) -> None:
    plan = _plan(ref.key, url, attempts)
    offsets = range(0, max(1, ref.size), plan.part)
    if len(offsets) > len(plan.urls):
        raise Refused(f"{ref.key} has {ref.size} bytes, more than the {plan.part * len(plan.urls)} that may be sent")
    etags = [
        _send(ref.key, part_url, body, offset, min(plan.part, ref.size - offset), attempts, told)
        for offset, part_url in zip(offsets, plan.urls, strict=False)
    ]
    _complete(ref.key, plan.complete, etags, attempts)


def _plan(key: str, url: str, attempts: Attempts) -> UploadPlan:
    plans: list[UploadPlan] = []

    def turn() -> str | None:
        with attempts.request("GET", url) as response:
            if response.status != 200:
                return refusal(key, response)
            plans.append(UploadPlan.model_validate_json(response.read(LONGEST_PLAN)))
        return None

    try:
        attempts.until_done(turn)
    except ValidationError:
        raise ProtocolError(f"what should be the plan of {key}'s upload is not one") from None
    return plans[-1]


def _complete(key: str, url: str, etags: list[str], attempts: Attempts) -> None:
    """Makes the blob of its parts. S3 may answer 200 and an error, and a second time that there is no such upload."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    document = f'<CompleteMultipartUpload xmlns="{_S3}">{parts}</CompleteMultipartUpload>'.encode()
    turns = 0

    def turn() -> str | None:
        nonlocal turns
        turns += 1
        with attempts.request("POST", url, {"Content-Type": "application/xml"}, document) as response:
            if response.status == 404 and turns > 1:  # done the last time, when the answer was lost
                return None
            if response.status != 200:
                return refusal(key, response)
            return "the store could not put the parts together" if b"<Error>" in response.read() else None

    attempts.until_done(turn)
