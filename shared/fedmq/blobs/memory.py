"""Blobs in the memory of this process: for the sandbox, tests and simulation.

Presigned URLs are `memory://STORE/METHOD/KEY?until=SECONDS`, on the clock of the store. That of an upload ends with
`&sha256=HASH`. `open_url` and `put_url` resolve them.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from fedmq.blobs.base import BlobInfo, BlobSource, SignedUpload, UrlExpired
from fedmq.blobs.checks import IncomingBlob, absent, check_key, check_sha256, check_size, opened
from fedmq.errors import Refused
from fedmq_schemas.messages import BlobRef

_STORES: WeakValueDictionary[str, MemoryBlobs] = WeakValueDictionary()
_NUMBERS = itertools.count(1)


class MemoryBlobs:
    """The `Blobs` port on a dict. `clock` returns seconds, for the times of blobs and the expiry of URLs."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._blobs: dict[str, tuple[bytes, str, float]] = {}
        self._name = str(next(_NUMBERS))
        _STORES[self._name] = self

    def put(self, key: str, source: BlobSource) -> BlobRef:
        """Stores bytes or the content of a file."""
        check_key(key)
        with opened(source) as (file, _):
            content = file.read()
        sha256 = hashlib.sha256(content).hexdigest()
        self._blobs[key] = (content, sha256, self.clock())
        return BlobRef(key=key, size=len(content), sha256=sha256)

    def load(self, ref: BlobRef) -> bytes:
        """Compares the hash from the time of `put`, because bytes in memory cannot change."""
        content, sha256, _ = self._entry(ref.key)
        check_size(ref, len(content))
        check_sha256(ref, sha256)
        return content

    def get(self, key: str) -> bytes:
        """Returns the stored object itself."""
        return self._entry(key)[0]

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Returns a slice."""
        return self._entry(key)[0][offset : offset + max(0, length)]

    def fetch(self, ref: BlobRef, into: Path) -> Path:
        """Writes the file `into`."""
        content = self.get(ref.key)
        check_size(ref, len(content))
        with IncomingBlob(ref, into) as incoming:
            incoming.write(content)
            incoming.finish()
        return into

    def stat(self, key: str) -> BlobInfo:
        """Returns size and time of `put`."""
        content, _, modified = self._entry(key)
        return BlobInfo(key, len(content), modified)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Lists in key order, without blobs that are deleted meanwhile."""
        for key in sorted(key for key in tuple(self._blobs) if key.startswith(prefix)):
            if entry := self._blobs.get(key):
                yield BlobInfo(key, len(entry[0]), entry[2])

    def delete(self, key: str) -> None:
        """Removes the entry, if there is one."""
        check_key(key)
        self._blobs.pop(key, None)

    def presign_get(self, key: str, seconds: float) -> str:
        """Returns a URL that is valid in this process."""
        return self._presign("get", key, seconds)

    def presign_put(self, key: str, seconds: float) -> str:
        """Returns a URL that is valid in this process."""
        return self._presign("put", key, seconds)

    def presign_upload(self, ref: BlobRef, seconds: float) -> SignedUpload:
        """Returns a URL that is valid in this process. No headers are needed."""
        return SignedUpload(f"{self._presign('put', ref.key, seconds)}&sha256={ref.sha256}", {})

    def binds_uploads(self) -> bool:
        """Returns True, as `put_url` compares the hash."""
        return True

    def _presign(self, method: str, key: str, seconds: float) -> str:
        check_key(key)
        return f"memory://{self._name}/{method}/{key}?until={self.clock() + seconds!r}"

    def _entry(self, key: str) -> tuple[bytes, str, float]:
        check_key(key)
        entry = self._blobs.get(key)
        if entry is None:
            raise absent(key)
        return entry


def open_url(url: str, method: str, key: str) -> MemoryBlobs:
    """Returns the store of this process to which a `memory://` URL leads. `method`: `get` or `put`.

    Raises `UrlExpired`, and `Refused` if the URL is for another key or method, or its store is gone.
    """
    address, _, query = url.partition("?until=")
    name, _, allowed = address.removeprefix("memory://").partition("/")
    store = _STORES.get(name)
    if store is None or allowed != f"{method}/{key}":
        raise Refused(f"this URL is not one to {method} {key} in a store of this process")
    if store.clock() >= float(query.partition("&")[0]):
        raise UrlExpired(f"the URL to {method} {key} has expired")
    return store


def put_url(url: str, key: str, source: BlobSource) -> BlobRef:
    """Stores bytes or a file through a `memory://` URL. Raises as `open_url`, and `Refused` if it is for other content."""
    store = open_url(url, "put", key)
    sha256 = url.partition("&sha256=")[2]
    with opened(source) as (file, _):
        content = file.read()
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise Refused(f"the URL to put {key} is for other content")
    return store.put(key, content)
