"""Progress of work on many blobs, as lines on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

import typer

from fedmq_cli.backup.named_blobs import NamedBlob

EVERY_SECONDS = 5.0


class BlobProgress:
    """Prints how far work on blobs is: at most one line in five seconds, so none for work that is shorter."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._printed_at = clock()

    def through(self, blobs: Collection[NamedBlob], what: str) -> Iterator[NamedBlob]:
        """Yields the blobs, and prints before each one how many are done, if it is time."""
        size, done = sum(blob.ref.size for blob in blobs), 0
        for number, blob in enumerate(blobs):
            if self._clock() - self._printed_at >= EVERY_SECONDS:
                self._printed_at = self._clock()
                typer.echo(f"{what}: {number} of {len(blobs)} blobs, {megabytes(done)} of {megabytes(size)}", err=True)
            yield blob
            done += blob.ref.size


def megabytes(size: int) -> str:
    """Returns a number of bytes as text: `12.3 MB`."""
    return f"{size / 1e6:,.1f} MB"
