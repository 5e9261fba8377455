"""A blob that comes in over a connection: checked while it comes, and whole at its path or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from io import FileIO
from pathlib import Path
from types import TracebackType

from fedmq.blobs.keys import check_sha256, check_size
from fedmq.errors import InvalidUpdate
from fedmq_schemas.messages import BlobRef


class IncomingBlob:
    """Receives the content of `ref` into the file `into`, or into memory where `into` is None.

    A context manager; it writes beside `into` and removes what is unfinished at the end.
    - `write(piece)`: `InvalidUpdate` as soon as more comes than was announced.
    - `received`: bytes so far, from which a broken transfer may go on. `restart()`: forgets them.
    - `finish()`: `InvalidUpdate` if size or sha256 differ; else `into` exists and is returned, or the
      bytes are.
    """

    def __init__(self, ref: BlobRef, into: Path | None) -> None:
        self._ref = ref
        self._into = into
        self._partial = None if into is None else into.with_name(f"{into.name}.partial")
        self._file = None if self._partial is None else FileIO(self._partial, "wb")
        self._pieces: list[bytes] = []
        self._digest = hashlib.sha256()
        self.received = 0

    def write(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._ref.size:
            raise InvalidUpdate(f"blob {self._ref.key} is longer than the {self._ref.size} bytes announced")
        self._digest.update(piece)
        if self._file is None:
            self._pieces.append(piece)
        else:
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]

    def restart(self) -> None:
        self.received = 0
        self._digest = hashlib.sha256()
        self._pieces.clear()
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    def finish(self) -> bytes | Path:
        check_size(self._ref, self.received)
        check_sha256(self._ref, self._digest.hexdigest())
        if self._file is None or self._into is None or self._partial is None:
            return b"".join(self._pieces)
        self._file.close()
        os.replace(self._partial, self._into)
        return self._into

    def __enter__(self) -> IncomingBlob:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None and self._partial is not None:
            self._file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._partial)
