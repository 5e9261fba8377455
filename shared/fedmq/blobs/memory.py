"""Blobs in this process' memory: for tests and simulation.

Presigned URLs are `memory://STORE/METHOD/KEY?until=SECONDS`, on the clock that the store was given;
`open_url` resolves them, so that expiry can be tried without a server.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from fedmq.blobs.base import BlobInfo, BlobSource
from fedmq.blobs.incoming import IncomingBlob
from fedmq.blobs.keys import absent, check_key, check_sha256, check_size
from fedmq.errors import NotFound, Refused
from fedmq_schemas.messages import BlobRef

_STORES: WeakValueDictionary[str, MemoryBlobs] = WeakValueDictionary()
_NUMBERS = itertools.count(1)


class MemoryBlobs:
    """The `Blobs` port on a dict; safe across threads, since each blob is one dict entry.

    `clock` gives seconds for `modified` and for the expiry of presigned URLs.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._blobs: dict[str, tuple[bytes, str, float]] = {}
        self._name = str(next(_NUMBERS))
        _STORES[self._name] = self

    def put(self, key: str, source: BlobSource) -> BlobRef:
        check_key(key)
        content = source if isinstance(source, bytes) else _read(source)
        sha256 = hashlib.sha256(content).hexdigest()
        self._blobs[key] = (content, sha256, self._clock())
        return BlobRef(key=key, size=len(content), sha256=sha256)

    def load(self, ref: BlobRef) -> bytes:
        """Bytes in memory don't change, so their hash of when they were put is still theirs."""
        content, sha256, _ = self._entry(ref.key)
        check_size(ref, len(content))
        check_sha256(ref, sha256)
        return content

    def get(self, key: str) -> bytes:
        return self._entry(key)[0]

    def read(self, key: str, offset: int, length: int) -> bytes:
        return self._entry(key)[0][offset : offset + max(0, length)]

    def fetch(self, ref: BlobRef, into: Path) -> Path:
        content = self.get(ref.key)
        check_size(ref, len(content))
        with IncomingBlob(ref, into) as landing:
            landing.write(content)
            landing.finish()
        return into

    def stat(self, key: str) -> BlobInfo:
        content, _, modified = self._entry(key)
        return BlobInfo(key, len(content), modified)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        for key in sorted(key for key in tuple(self._blobs) if key.startswith(prefix)):
            if entry := self._blobs.get(key):
                yield BlobInfo(key, len(entry[0]), entry[2])

    def delete(self, key: str) -> None:
        check_key(key)
        self._blobs.pop(key, None)

    def presign_get(self, key: str, seconds: float) -> str:
        return self._presign("get", key, seconds)

    def presign_put(self, key: str, seconds: float, size: int = 0) -> str:
        return self._presign("put", key, seconds)

    def expired(self, until: float) -> bool:
        """Whether a presigned URL that is good until then has stopped working."""
        return self._clock() >= until

    def _presign(self, method: str, key: str, seconds: float) -> str:
        check_key(key)
        return f"memory://{self._name}/{method}/{key}?until={self._clock() + seconds!r}"

    def _entry(self, key: str) -> tuple[bytes, str, float]:
        check_key(key)
        entry = self._blobs.get(key)
        if entry is None:
            raise absent(key)
        return entry


def open_url(url: str, method: str, key: str) -> MemoryBlobs | None:
    """The store whose `memory://` URL for `key` this is, or None if the URL has expired.

    Raises `Refused` if the URL is for another key or method (`get` or `put`), or its store is gone.
    """
    address, _, until = url.partition("?until=")
    name, _, allowed = address.removeprefix("memory://").partition("/")
    store = _STORES.get(name)
    if store is None or allowed != f"{method}/{key}":
        raise Refused(f"this URL is not one to {method} {key} in a store of this process")
    return None if store.expired(float(until)) else store


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path} to store") from None
