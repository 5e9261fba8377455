"""The blob port: immutable bytes under a key, in two buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedmq.errors import Refused
from fedmq_schemas.messages import BlobRef

BlobSource = bytes | Path
STORE = "blob_store"
"""The `store` of the errors of a blob store."""


class UrlExpired(Refused):
    """The store refuses a presigned URL: it is too old or was never valid. A fresh one may work."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """An entry of a listing: the key, the size in bytes, and the last change in seconds since 1970."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class SignedUpload:
    """A presigned URL for a PUT, and the headers that the request must have as they are."""

    url: str
    headers: Mapping[str, str]


class Blobs(Protocol):
    """A store of blobs. All methods block, and may be called from any thread.

    A key is `BUCKET/NAME`, where the bucket is `models` or `updates` and the name may contain slashes (see
    `fedmq.blobs.checks`). All methods raise `Transient` if the server fails, `NotFound` for an absent key (except `delete`
    and the presigning methods), and `ProtocolError` for a malformed key.
    """

    def put(self, key: str, source: BlobSource) -> BlobRef:
        """Stores bytes or a file, whole or not at all. Replaces a blob of the key, which callers give the same content."""

    def get(self, key: str) -> bytes:
        """Returns all bytes of a blob, without checking them."""

    def load(self, ref: BlobRef) -> bytes:
        """Returns all bytes of a blob. Raises `InvalidUpdate` if size or SHA-256 differ from `ref`."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Returns at most `length` bytes from `offset`: fewer at the end of the blob, none past it."""

    def fetch(self, ref: BlobRef, into: Path) -> Path:
        """Streams a blob into the file `into`, or returns the store's own file, which the caller must not change.

        Raises `InvalidUpdate` if size or SHA-256 differ from `ref`; the size is checked first.
        """

    def stat(self, key: str) -> BlobInfo:
        """Returns size and time of a blob."""

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Lists the blobs whose keys begin with `prefix`, which may end anywhere in a key, lazily.

        They are in key order if the server lists them so (SeaweedFS lists folder by folder).
        """

    def delete(self, key: str) -> None:
        """Deletes a blob. An absent blob is no error."""

    def presign_get(self, key: str, seconds: float) -> str:
        """Returns a URL that reads the blob, even one that is put later, without credentials for `seconds`.

        A `file://` URL never expires. `fedmq.blobs.transfer` follows these URLs.
        """

    def presign_put(self, key: str, seconds: float) -> str:
        """Returns a URL as `presign_get`, to write the blob. It accepts any content, again and again."""

    def presign_upload(self, ref: BlobRef, seconds: float) -> SignedUpload:
        """Returns a URL that accepts the content of `ref` alone, if the store binds uploads, and else any content."""

    def binds_uploads(self) -> bool:
        """Returns whether the URLs of `presign_upload` accept no other content than that for which they were made."""
