"""A partial: the sum of one combiner's updates, as a blob.

It is safetensors: an int64 tensor `<lane>/<name>`, in the model's shape, for each lane that a tensor uses, and in its
metadata under `partial` all that is declared here. Unused tensors are left out, so the partial of nothing is a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fedmq.aggregation.rule import is_natural
from fedmq.errors import InvalidUpdate
from fedmq.tensors import Spec
from fedmq.tensors.tensorblob import Meta, Tensor

INTEGERS = np.dtype("<i8")
_LANES = {str(lane) for lane in range(-200, 200)}


@dataclass(frozen=True, slots=True)
class PartialSum:
    """The metadata of a partial.

    - `count`: updates in the sum; `weight`: their total weight.
    - `exponents`: by tensor name, those of the plan.
    - `maxima`: by blob tensor, the sum of the updates' maxima in the lane's units. It bounds the sum's elements.
    - `largest`: by tensor name, the largest two |weight * delta| among all updates. A tensor in which
      nothing changed is left out.
    """

    count: int
    weight: int
    exponents: Mapping[str, int]
    maxima: Mapping[str, int]
    largest: Mapping[str, list[float]]

    def meta(self) -> Meta:
        """Returns the metadata of the blob."""
        return {"partial": asdict(self)}

    @classmethod
    def read(cls, meta: Meta) -> PartialSum:
        """Reads a blob's metadata. Raises `InvalidUpdate` if it does not have this form."""
        try:
            stated = cls(**meta["partial"])
        except (KeyError, TypeError) as error:
            raise InvalidUpdate("the blob is not a partial: its metadata lacks one") from error
        wellformed = (
            all(isinstance(part, dict) for part in (stated.exponents, stated.maxima, stated.largest))
            and all(type(exponent) is int for exponent in stated.exponents.values())
            and is_natural(*stated.maxima.values())
            and all(_pair(pair) for pair in stated.largest.values())
        )
        if not wellformed:
            raise InvalidUpdate("the partial's metadata is garbled")
        return stated

    def places(self, tensors: Mapping[str, Tensor], spec: Spec) -> list[tuple[int, str, Tensor]]:
        """Returns the lane, the tensor's name and the place in the blob of each sum.

        Raises `InvalidUpdate` for a sum that is not declared, or that fits no tensor of the spec.
        """
        if tensors.keys() != self.maxima.keys():
            raise InvalidUpdate("the partial's tensors are not those that it declares")
        found = []
        for key, tensor in tensors.items():
            lane, _, name = key.partition("/")
            expected = spec.get(name)
            if expected is None or lane not in _LANES:
                raise InvalidUpdate(f"the partial has a sum {key!r} of no tensor of the model")
            if tensor.dtype != INTEGERS or tensor.shape != expected.delta_shape:
                raise InvalidUpdate(f"the partial's sum {key!r} is of another dtype or shape")
            found.append((int(lane), name, tensor))
        return found


def _pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(number) is float and 0 <= number < float("inf") for number in value)
    )
