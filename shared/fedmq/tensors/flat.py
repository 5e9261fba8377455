"""Computes the update of a small float32 model over all of its tensors at once. Pure.

For a thousand numbers, numpy's cost per call exceeds the arithmetic by far: without this module a round of 1,000 clients
whose training costs nothing takes longer by about a twentieth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmq.tensors.opaque import named_opaque
from fedmq.tensors.tensorblob import DTYPES, Array, header

MOST_BYTES = 1_000_000
_FLOAT32 = DTYPES["F32"]


class FlatModel:
    """A model's tensors, one after the other in the order of their bytes in a blob."""

    def __init__(self, weights: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        self._head, self._order = header(weights, meta)
        self._values = self._joined(weights)

    def update(self, new: Mapping[str, Array]) -> bytes:
        """Returns the bytes of `encode(delta(new, weights), meta)`. `new` has the model's names, shapes and dtypes."""
        values = self._joined(new)
        with np.errstate(invalid="ignore", over="ignore"):
            delta = np.subtract(values, self._values)
        return b"".join((self._head, delta.data))

    def _joined(self, weights: Mapping[str, Array]) -> Array:
        """Joins the tensors by bytes, in a third of the time that `np.concatenate` takes for ten tensors of 1 kB."""
        parts: list[Any] = [np.ascontiguousarray(weights[name]) for name in self._order]
        return np.frombuffer(b"".join(parts), _FLOAT32)


def flat(weights: Mapping[str, Array], meta: Mapping[str, Any]) -> FlatModel | None:
    """Returns the model as one array, or None if it is large, not all of float32, or has an opaque tensor."""
    is_flat = weights and all(value.dtype is _FLOAT32 for value in weights.values()) and not named_opaque(meta)
    if not is_flat or sum(value.nbytes for value in weights.values()) > MOST_BYTES:
        return None
    return FlatModel(weights, meta)
