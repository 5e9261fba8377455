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
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from xml.sax.saxutils import escape

from pydantic import ValidationError

from fedmq.blobs import files, memory
from fedmq.blobs.base import PLAN_FRAGMENT, BlobSource, UploadPlan
from fedmq.blobs.checks import IncomingBlob, check_size, opened
from fedmq.blobs.http import PIECE, Attempts, ignore, refusal
from fedmq.errors import ProtocolError, Refused
from fedmq_schemas.messages import BlobRef

LONGEST_PLAN = 4 << 20
_S3 = "http://s3.amazonaws.com/doc/2006-03-01/"


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
    *,
    timeout: float = 300.0,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    on_fault: Callable[[str], object] = ignore,
) -> BlobRef:
    """Uploads bytes or a file to the presigned `url`, whole or not at all. Raises `Refused` for another key's URL.

    If the URL leads to a plan of an upload in parts, only the broken part is sent again after a fault.
    """
    if url.startswith("file://"):
        return files.open_url(url, key).put(key, source)
    if url.startswith("memory://"):
        return memory.open_url(url, "put", key).put(key, source)
    attempts = Attempts(timeout, pause, clock, on_fault)
    with opened(source) as (body, size):
        ref = BlobRef(key=key, size=size, sha256=hashlib.file_digest(body, "sha256").hexdigest())
        if url.endswith(PLAN_FRAGMENT):
            _put_parts(ref, url.removesuffix(PLAN_FRAGMENT), body, attempts)
        else:
            _put_part(key, url, body, 0, size, attempts)
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


def _put_part(key: str, url: str, body: BufferedIOBase, offset: int, length: int, attempts: Attempts) -> str:
    """Puts `length` bytes of `body` from `offset`, and returns the ETag of the answer."""
    headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
    etag = ""

    def pieces() -> Iterator[bytes]:
        body.seek(offset)
        left = length
        while left:
            attempts.check()
            piece = body.read(min(PIECE, left))
            if not piece:
                raise ProtocolError("the file became shorter while it was sent")
            yield piece
            left -= len(piece)

    def attempt() -> str | None:
        nonlocal etag
        with attempts.request("PUT", url, headers, pieces()) as response:
            if response.status not in (200, 201, 204):
                return refusal(key, response)
            etag = response.headers.get("ETag", "")
        return None

    attempts.until_done(attempt)
    return etag


def _put_parts(ref: BlobRef, url: str, body: BufferedIOBase, attempts: Attempts) -> None:
    plan = _read_plan(ref.key, url, attempts)
    offsets = range(0, max(1, ref.size), plan.part)
    if len(offsets) > len(plan.urls):
        raise Refused(f"{ref.key} has {ref.size} bytes, more than the {plan.part * len(plan.urls)} that may be sent")
    etags = [
        _put_part(ref.key, part_url, body, offset, min(plan.part, ref.size - offset), attempts)
        for offset, part_url in zip(offsets, plan.urls, strict=False)
    ]
    _complete(ref.key, plan.complete, etags, attempts)


def _read_plan(key: str, url: str, attempts: Attempts) -> UploadPlan:
    text = b""

    def attempt() -> str | None:
        nonlocal text
        with attempts.request("GET", url) as response:
            if response.status != 200:
                return refusal(key, response)
            text = response.read(LONGEST_PLAN)
        return None

    attempts.until_done(attempt)
    try:
        return UploadPlan.model_validate_json(text)
    except ValidationError:
        raise ProtocolError(f"the plan of the upload of {key} is malformed") from None


def _complete(key: str, url: str, etags: list[str], attempts: Attempts) -> None:
    """Makes the blob of its parts. S3 may answer an error with status 200."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    document = f'<CompleteMultipartUpload xmlns="{_S3}">{parts}</CompleteMultipartUpload>'.encode()
    count = 0

    def attempt() -> str | None:
        nonlocal count
        count += 1
        with attempts.request("POST", url, {"Content-Type": "application/xml"}, document) as response:
            if response.status == 404 and count > 1:  # an earlier attempt succeeded, and its answer was lost
                return None
            if response.status != 200:
                return refusal(key, response)
            return "the store could not put the parts together" if b"<Error>" in response.read() else None

    attempts.until_done(attempt)
