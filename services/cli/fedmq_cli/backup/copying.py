"""Copies named blobs from one store to another, and compares their SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from fedmq.blobs.base import Blobs
from fedmq.errors import InvalidUpdate, NotFound
from fedmq_cli.backup.named_blobs import NamedBlob
from fedmq_cli.backup.progress import BlobProgress
from fedmq_schemas.messages import BlobRef


@dataclass(slots=True)
class Copied:
    """Number and bytes of copied blobs, number of those that were present, and those that could not be copied."""

    blobs: int = 0
    bytes: int = 0
    present: int = 0
    faults: list[dict[str, str]] = field(default_factory=list)


def copy_blobs(
    source: Blobs,
    target: Blobs,
    blobs: Collection[NamedBlob],
    is_present: Callable[[BlobRef], bool],
    scratch: Path,
    progress: BlobProgress,
    copied: Copied,
) -> list[NamedBlob]:
    """Copies the blobs that are not present, and adds to `copied`. Returns those that `source` lacks.

    A blob whose SHA-256 in `source` is not the recorded one is a fault, and is not copied.
    """
    absent = []
    for blob in progress.through(blobs, "copied"):
        if is_present(blob.ref):
            copied.present += 1
            continue
        try:
            target.put(blob.ref.key, source.fetch(blob.ref, scratch))
        except NotFound:
            absent.append(blob)
        except InvalidUpdate as error:
            copied.faults.append(blob.fault(error.reason))
        else:
            copied.blobs += 1
            copied.bytes += blob.ref.size
    return absent
