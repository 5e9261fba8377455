"""Blobs of tensors, opened to be read block by block."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from fedmq.blobs.base import Blobs
from fedmq.tensors import Meta, Spec, spec_of
from fedmq.tensors.tensorblob import Source, Tensor, read_header
from fedmq_schemas.messages import BlobRef

IN_MEMORY = 1_000_000
"""A blob of more bytes is read from a file."""


def open_source(blobs: Blobs, ref: BlobRef, scratch: Path) -> Source:
    """Opens a blob of tensors, to be closed by the caller. Raises as `Blobs.load`.

    A large one is fetched into a file in `scratch` that has no name any more, unless the store holds it as a file.
    """
    if ref.size <= IN_MEMORY:
        return Source(blobs.load(ref))
    scratch.mkdir(parents=True, exist_ok=True)
    into = scratch / f"blob-{threading.get_ident()}"
    path = blobs.fetch(ref, into)
    try:
        return Source(path)
    finally:
        if path == into:
            into.unlink()


def copy_verified(blobs: Blobs, ref: BlobRef, key: str, scratch: Path) -> BlobRef:
    """Stores the content of `ref`, once verified, under `key` too, and returns its reference. Raises as `Blobs.load`."""
    if ref.size <= IN_MEMORY:
        return blobs.put(key, blobs.load(ref))
    scratch.mkdir(parents=True, exist_ok=True)
    into = scratch / f"copy-{threading.get_ident()}"
    path = blobs.fetch(ref, into)
    try:
        return blobs.put(key, path)
    finally:
        if path == into:
            into.unlink()


def model_spec(blobs: Blobs, key: str, size: int) -> Spec:
    """Reads the header of a model. Raises `NotFound`, and `InvalidUpdate` if the blob is no model."""
    return spec_of(*model_header(blobs, key, size))


def model_header(blobs: Blobs, key: str, size: int) -> tuple[Mapping[str, Tensor], Meta]:
    """Reads the tensors' places and the metadata of a model. Raises as `model_spec`."""
    return read_header(lambda at, length: blobs.read(key, at, length), size)
