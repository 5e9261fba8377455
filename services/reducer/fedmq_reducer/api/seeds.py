"""A seed on its way into the blob store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedmq import tensorblob
from fedmq.blobs.base import Blobs
from fedmq.errors import InvalidUpdate, NotFound, Refused
from fedmq.tensors import spec_of
from fedmq_schemas.messages import BlobRef

PIECE = 1 << 20


def store_seed(blobs: Blobs, file: Path, name: str | None = None) -> tuple[BlobRef, bool]:
    """Checks a safetensors file and puts it into bucket `models`; returns its reference and whether it was not there.

    Raises InvalidUpdate that says what was found instead of a model, Refused if the name is another model's.
    """
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()

        def read(offset: int, length: int) -> bytes:
            stream.seek(offset)
            return stream.read(length)

        try:
            spec_of(*tensorblob.read_header(read, size))
        except InvalidUpdate as error:
            stream.seek(0)
            found = found_instead(stream.read(64), size)
            raise InvalidUpdate(f"not a model: found {found}; safetensors is wanted ({error.reason})") from error
    key = f"models/{name or f'seed-{sha256[:12]}'}"
    reference = BlobRef(key=key, size=size, sha256=sha256)
    try:
        known = blobs.stat(key).size
    except NotFound:
        return blobs.put(key, file), True
    if known != size or _sha256(blobs, key, size) != sha256:
        raise Refused(f"there is another model called {name!r}: choose another name, or none")
    return reference, False


def _sha256(blobs: Blobs, key: str, size: int) -> str:
    digest = hashlib.sha256()
    for offset in range(0, size, PIECE):
        digest.update(blobs.read(key, offset, PIECE))
    return digest.hexdigest()


def found_instead(head: bytes, size: int) -> str:
    """What a file that is no safetensors seems to be, in words, from its first bytes."""
    if size == 0:
        return "nothing: it is empty"
    for start, words in _STARTS.items():
        if head.startswith(start):
            return words
    return "bytes that are no known form of a model"


_STARTS = {
    b"PK\x03\x04": "a zip archive (.npz, .keras and .pt are such; `fedmq seed FILE` converts them)",
    b"\x89HDF": "an HDF5 file (`fedmq seed FILE` converts Keras' .h5)",
    b"\x80\x02": "a pickle, which may run code and is never opened",
    b"\x80\x04": "a pickle, which may run code and is never opened",
    b"\x80\x05": "a pickle, which may run code and is never opened",
    b"\x93NUMPY": "a single array (.npy); a model is named arrays: numpy.savez writes them",
    b"{": "JSON",
    b"<": "a page of HTML or XML",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
}
