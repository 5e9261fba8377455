"""The blob port: immutable bytes under a key, in two buckets, streamed both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedmq_schemas.messages import BlobRef

BlobSource = bytes | Path


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a listing tells: the key, size in bytes, seconds since 1970 of the last change."""

    key: str
    size: int
    modified: float


class Blobs(Protocol):
    """A store of blobs. All methods block and may be called from any thread. Servers' faults are
    `Transient`, absent keys `NotFound`, malformed keys `ProtocolError`.

    Keys are `bucket/name`, where the bucket is `models` or `updates` and the name may contain
    slashes; `fedmq.blobs.keys` tells exactly.
    - `put(key, source)`: stores bytes or a file whole or not at all, and returns its BlobRef (size,
      sha256). The same key again replaces it (writers choose keys so that this only happens with
      the same content).
    - `load(ref)`: all bytes, in memory, and what `ref` announces: size first, then sha256; a difference is
      `InvalidUpdate`. `get(key)`: all bytes, as they are. `read(key, offset, length)`: a part; past the end: fewer bytes.
    - `fetch(ref, into)`: streams the blob to the file `into` (whole or not at all) and checks size
      first, then sha256 while it comes; a difference is `InvalidUpdate`. An adapter that holds the
      blob as a local file checks it in place and returns that path instead: only read it.
    - `stat(key)`: BlobInfo. `list(prefix)`: BlobInfos, lazily; the prefix may end anywhere in a key. They come in key
      order, where the server keeps to it: SeaweedFS goes folder by folder. `delete(key)`: absent is fine.
    - `presign_get(key, seconds)`, `presign_put(key, seconds, size)`: URLs that need no credentials and
      stop working after that time (`file://` URLs never do); `fedmq.blobs.transfer` follows them. The
      blob need not exist yet. `size` is how many bytes are expected, up to twice as many will do; a server's store
      prepares an upload in parts where it is large.
    """

    def put(self, key: str, source: BlobSource) -> BlobRef: ...
    def get(self, key: str) -> bytes: ...
    def load(self, ref: BlobRef) -> bytes: ...
    def read(self, key: str, offset: int, length: int) -> bytes: ...
    def fetch(self, ref: BlobRef, into: Path) -> Path: ...
    def stat(self, key: str) -> BlobInfo: ...
    def list(self, prefix: str) -> Iterator[BlobInfo]: ...
    def delete(self, key: str) -> None: ...
    def presign_get(self, key: str, seconds: float) -> str: ...
    def presign_put(self, key: str, seconds: float, size: int = 0) -> str: ...
