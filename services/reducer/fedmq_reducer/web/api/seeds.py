"""Checks an uploaded seed and stores it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fedmq.blobs.base import Blobs
from fedmq.errors import InvalidUpdate, NotFound, Refused
from fedmq.model_files.filetypes import found_instead
from fedmq.tensors import spec_of
from fedmq.tensors.tensorblob import Source
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef

PIECE = 1 << 20


def store_seed(blobs: Blobs, file: Path, name: str | None = None) -> tuple[BlobRef, bool]:
    """Checks a safetensors file and puts it into bucket `models`. Returns its reference, and whether it is new.

    Raises InvalidUpdate, which says what was found instead of a model, and Refused if the name belongs to another model.
    """
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        stream.seek(0)
        head = stream.read(64)
    try:
        with Source(file) as source:
            spec_of(source.tensors, source.meta)
            fault = _fault(source)
    except InvalidUpdate as error:
        found = found_instead(head) or "bytes that are no known form of a model"
        raise InvalidUpdate(
            f"not a model: found {found}; safetensors is wanted, and `fedmq seed FILE` converts .npz, Keras and .pt "
            f"({error.reason})"
        ) from error
    if fault:
        raise InvalidUpdate(f"no session could start from this model: {fault}")
    key = keys.model_blob(name or keys.seed_model(sha256))
    reference = BlobRef(key=key, size=size, sha256=sha256)
    try:
        known = blobs.stat(key).size
    except NotFound:
        return blobs.put(key, file), True
    if known != size or _sha256(blobs, key, size) != sha256:
        raise Refused(f"there is another model called {name!r}: choose another name, or none")
    return reference, False


def _fault(source: Source) -> str:
    """Returns why no session can start from the model, or an empty text."""
    if not source.tensors:
        return "it holds no tensors"
    buffer = np.empty(PIECE, np.uint8)
    for name, tensor in source.tensors.items():
        most = PIECE // tensor.dtype.itemsize
        for first in range(0, tensor.count if tensor.dtype.kind == "f" else 0, most):
            start, count = tensor.start + first * tensor.dtype.itemsize, min(most, tensor.count - first)
            if not np.isfinite(source.view(tensor.dtype, start, count, buffer)).all():
                return f"tensor {name!r} holds NaN or infinity"
    return ""


def _sha256(blobs: Blobs, key: str, size: int) -> str:
    digest = hashlib.sha256()
    for offset in range(0, size, PIECE):
        digest.update(blobs.read(key, offset, PIECE))
    return digest.hexdigest()
