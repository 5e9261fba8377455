"""Opaque tensors: bytes that cannot be averaged, such as a tree model or a text. Pure.

An update holds their new bytes and no difference, one number from 0 to 255 for each byte. The exact sum of a single
update, divided by its weight, gives these numbers back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmq.tensors.tensorblob import Array

if TYPE_CHECKING:
    from fedmq.tensors.model import Spec

OPAQUE = "opaque"
BYTE = np.dtype("u1")


def named_opaque(meta: Mapping[str, Any] | None) -> set[str]:
    """Returns the names to which a model's metadata gives the role opaque."""
    roles = (meta or {}).get("roles", {})
    return {name for name, role in roles.items() if role == OPAQUE} if isinstance(roles, Mapping) else set()


def to_bytes(array: Array) -> Array:
    """Returns the little-endian bytes of an array, in its shape with a last dimension of `itemsize`."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return np.frombuffer(little.tobytes(), BYTE).reshape(*array.shape, array.dtype.itemsize)


def from_bytes(numbers: Array, like: Array) -> Array:
    """Returns the array whose bytes are these whole numbers from 0 to 255, in the shape and dtype of `like`."""
    return np.frombuffer(numbers.astype(BYTE).tobytes(), like.dtype.newbyteorder("<")).reshape(like.shape)


def why_one_client(spec: Spec, clients_requested: int | None) -> str:
    """Returns why no round of so many clients can train a model of this spec, and the remedy; empty if it can."""
    opaque = sorted(name for name, tensor in spec.items() if tensor.role == OPAQUE)
    if not opaque or clients_requested == 1:
        return ""
    return (
        f"tensor {opaque[0]!r} is opaque, and bytes of several clients can't be averaged: let one client train in each "
        "round, with clients_requested = 1"
    )
