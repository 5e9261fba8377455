"""What all blob adapters share: checks of keys and of content, and opened sources."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from io import BufferedIOBase, BytesIO
from pathlib import Path
from types import TracebackType

from fedmq.blobs.base import BlobSource
from fedmq.errors import InvalidUpdate, NotFound, ProtocolError
from fedmq_schemas.keys import BUCKETS
from fedmq_schemas.messages import BlobRef

# No part begins with a dot: `..` would leave the store, and other names with a leading dot belong to the store.
_PART = r"/(?!\.)[^/\\\x00-\x1f\x7f]+"
_KEY = re.compile(rf"(?:{'|'.join(BUCKETS)})(?:{_PART})+")
_FOLDER = re.compile(rf"(?:{'|'.join(BUCKETS)})(?:{_PART})*")


@lru_cache(maxsize=4096)  # a round of a thousand clients uses each key three times, far apart
def check_key(key: str) -> None:
    """Raises `ProtocolError` unless `key` is `BUCKET/NAME` of at most 1,024 characters.

    No part of the name may be empty, begin with a dot, or contain a backslash or a control character.
    """
    if len(key) > 1024 or _KEY.fullmatch(key) is None:
        raise ProtocolError(
            f"{key[:200]!r} is not a blob key: it must be 'models/NAME' or 'updates/NAME', "
            "and no part of NAME may be empty or begin with a dot"
        )


def is_folder(path: str) -> bool:
    """Whether keys may lie below `path`, which has no slash at its end: `models`, `updates/s/1`."""
    return _FOLDER.fullmatch(path) is not None


def check_size(ref: BlobRef, size: int) -> None:
    """Raises `InvalidUpdate` if a blob of `size` bytes differs from `ref`."""
    if size != ref.size:
        raise InvalidUpdate(f"blob {ref.key} has {size} bytes, announced were {ref.size}")


def check_sha256(ref: BlobRef, sha256: str) -> None:
    """Raises `InvalidUpdate` if a blob with this SHA-256 differs from `ref`."""
    if sha256 != ref.sha256:
        raise InvalidUpdate(f"blob {ref.key} has sha256 {sha256[:12]}…, announced was {ref.sha256[:12]}…")


def absent(key: str) -> NotFound:
    """Returns the error for a blob that is not in the store."""
    return NotFound(f"there is no blob {key}")


@contextlib.contextmanager
def opened(source: BlobSource) -> Iterator[tuple[BufferedIOBase, int]]:
    """Opens bytes or a file for reading, and yields it with its size. Raises `NotFound` if there is no such file."""
    if isinstance(source, bytes):
        yield BytesIO(source), len(source)
        return
    if not source.is_file():
        raise NotFound(f"there is no file {source} to store")
    with source.open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


class IncomingBlob:
    """Receives a blob piece by piece, into memory, or beside the file `into`, where an unfinished file is removed.

    A context manager. `received` is the number of bytes so far, at which a broken transfer may resume.
    """

    def __init__(self, ref: BlobRef, into: Path | None = None) -> None:
        self.received = 0
        self._ref = ref
        self._into = into
        self._digest = hashlib.sha256()
        self._partial = None if into is None else into.with_name(f"{into.name}.partial")
        self._target: BufferedIOBase = BytesIO() if self._partial is None else self._partial.open("w+b")

    def write(self, piece: bytes) -> None:
        """Adds a piece. Raises `InvalidUpdate` as soon as there are more bytes than announced."""
        self.received += len(piece)
        if self.received > self._ref.size:
            raise InvalidUpdate(f"blob {self._ref.key} is longer than the {self._ref.size} bytes announced")
        self._digest.update(piece)
        self._target.write(piece)

    def restart(self) -> None:
        """Discards all bytes received so far."""
        self.received = 0
        self._digest = hashlib.sha256()
        self._target.seek(0)
        self._target.truncate()

    def finish(self) -> bytes:
        """Moves the file to `into`, or returns the bytes. Raises `InvalidUpdate` if size or SHA-256 differ."""
        check_size(self._ref, self.received)
        check_sha256(self._ref, self._digest.hexdigest())
        if self._into is None or self._partial is None:
            self._target.seek(0)
            return self._target.read()
        self._target.close()
        os.replace(self._partial, self._into)
        return b""

    def __enter__(self) -> IncomingBlob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # on a full disk, closing fails too
            self._target.close()
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
