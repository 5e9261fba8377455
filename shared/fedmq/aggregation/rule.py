"""What an aggregation rule is: how the accepted updates of a round become one step of the model.

A rule is a class. An instance serves one round at one place and is used by one thread at a time:

| call | where | when |
|---|---|---|
| `Rule(spec, exponents)` | combiner, reducer | opens the rule, before anything else |
| `verify(update, weight)` | combiner | once for each update, on arrival |
| `add(update, weight, seen)` | combiner | once for each accepted update (see `needs_every_update`) |
| `write(file)` | combiner | at the end of the round, and at checkpoints: gives the partial, a safetensors blob |
| `merge(partial)` | reducer; combiner, after a restart | once for each partial |
| `finish()` | reducer | once, after all partials |

`fold` and `fold_partial` wrap these calls. They count updates and weights, and are what the roles call.

Requirements:
- The same updates give the same bytes on every machine, in any order of `add` and `merge`. So there is no clock and no
  randomness, and no sum of floats whose order depends on the order of calls.
- A redelivered update is recognised before it reaches the rule: no call needs to be idempotent.
- `InvalidUpdate` rejects the update at hand and leaves the rule as it was. `verify` changes nothing.
- Any other exception is a bug: no later call is made.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

from fedmq.aggregation.arrangement import Arrangement
from fedmq.aggregation.verification import Contribution, Floats, Verifier
from fedmq.errors import InvalidUpdate
from fedmq.tensors import Spec, TensorRole
from fedmq.tensors.tensorblob import Array, Meta, Source
from fedmq_schemas.policy import DEFAULT_RULE

ROUNDING = 1e-6
"""Greatest relative error of the norm of a clipped delta."""


class Rule(ABC):
    """An aggregation rule. The module describes when its methods are called, and what they must guarantee.

    - `name`: what the policy's `strategy.rule` calls the rule.
    - `composes`: whether partials of several combiners can be merged. If False, a round whose clients are at several
      combiners is refused, and `merge` is called at most once.
    - `needs_every_update`: whether the result depends on all updates at once. If True, the combiner keeps accepted updates
      in the blob store until the end of the round: then it calls `add` for each, in the order of the clients' names, and
      `write`. Checkpoints hold no partial. The updates stay readable until `write` returns, so `add` may keep them: those
      above 1 MB are open files. An update that has changed in the store by then is rejected, as is one that `add` refuses.
      If False, `add` is called on arrival, in any order.
    """

    name: ClassVar[str]
    composes: ClassVar[bool]
    needs_every_update: ClassVar[bool]

    def __init__(self, spec: Spec, exponents: Mapping[str, int]) -> None:
        """Opens the rule for a round of a model.

        `spec`: shape, dtype and role of each tensor. `exponents`: for each tensor that is neither counter nor opaque, the
        scale of its updates, as a power of two (`exact_sum.fixedpoint`). A rule may ignore them.
        """
        self.spec = spec
        self.exponents = dict(exponents)
        self.count = 0
        """Number of updates folded, also those in partials."""
        self.total_weight = 0
        self._opaque = next((name for name, tensor in spec.items() if tensor.role is TensorRole.OPAQUE), None)
        self.arrangement = Arrangement(spec)
        self._verifier = Verifier(self.arrangement)

    # -- what a rule decides ----------------------------------------------------------------------------------------

    def verify(self, update: Source, weight: int) -> Contribution:
        """Reads the update once and returns what it would contribute. Changes nothing. Raises as `Verifier.verify`."""
        return self._verifier.verify(update, weight)

    @abstractmethod
    def add(self, update: Source, weight: int, seen: Contribution) -> None:
        """Adds an update, for which `verify` has returned `seen`. Raises `InvalidUpdate` if it cannot be added.

        It has the names of the spec, in `TensorSpec.delta_shape` and `delta_dtype`. `values` reads a tensor.
        """

    @abstractmethod
    def write(self, file: BinaryIO) -> None:
        """Writes the partial of at least one update: a safetensors blob with the metadata of `partial_meta`.

        The same updates give the same bytes. The rule can be used further.
        """

    @abstractmethod
    def merge(self, partial: Source) -> None:
        """Adds a partial of this rule. Raises `InvalidUpdate` if the blob is none, or is of another model."""

    @abstractmethod
    def finish(self) -> dict[str, Floats]:
        """Returns the delta of each tensor, float64 in `TensorSpec.delta_shape`, by name.

        Constant tensors are left out. The server optimizer applies the delta of trainable tensors; statistics and
        counters change by it. Deltas of counters are whole numbers, and those of opaque tensors the bytes of the only
        update. At least one update has been added.
        """

    def next_exponents(self) -> dict[str, int]:
        """Returns the `exponents` of the next round."""
        return self.exponents

    # -- what the roles call ----------------------------------------------------------------------------------------

    def check(self, update: Source, weight: int, max_norm: float | None = None) -> Contribution:
        """Returns what `verify` does. Raises `InvalidUpdate` also for a delta whose L2 norm exceeds `max_norm`.

        The norm may exceed it by a millionth: a delta that was clipped to it was rounded to float32 afterwards.
        """
        seen = self.verify(update, weight)
        if max_norm is not None and seen.norm > max_norm * (1 + ROUNDING):
            raise InvalidUpdate(f"its norm is {seen.norm:.6g}, and the policy allows {max_norm:g}")
        return seen

    def fold(self, update: Source, weight: int, max_norm: float | None = None) -> Contribution:
        """Checks and adds an update. Raises `InvalidUpdate`, which leaves the rule as it was."""
        self._check_room()
        seen = self.check(update, weight, max_norm)
        self.add(update, weight, seen)
        self.count += 1
        self.total_weight += weight
        return seen

    def fold_partial(self, partial: Source) -> None:
        """Merges a partial. Raises `InvalidUpdate`, which leaves the rule as it was.

        The reason may be a partial of another rule, or a second one where the rule does not compose.
        """
        meta = partial.meta
        made_by = meta.get("rule", DEFAULT_RULE)
        if made_by != self.name:
            raise InvalidUpdate(f"the partial was made by the rule {made_by!r}, and the plan's rule is {self.name!r}")
        count, weight = _counts(meta)
        if count:
            self._check_room()
        if self.count and not self.composes:
            raise InvalidUpdate(f"the rule {self.name!r} does not compose: it can't merge two partials")
        self.merge(partial)
        self.count += count
        self.total_weight += weight

    def _check_room(self) -> None:
        """Raises `InvalidUpdate` if nothing more can be added: bytes of an opaque tensor are those of one update."""
        if self.count and self._opaque is not None:
            raise InvalidUpdate(
                f"tensor {self._opaque!r} is opaque: one update is its bytes, and two can't be averaged"
            )

    def partial_meta(self) -> Meta:
        """Returns the metadata that a partial must have: the rule's name, the number of updates and their weight."""
        return {"rule": self.name, "partial": {"count": self.count, "weight": self.total_weight}}

    def dump(self) -> bytes:
        """Returns the partial that `write` writes."""
        file = io.BytesIO()
        self.write(file)
        return file.getvalue()


def values(source: Source, name: str) -> Array:
    """Returns a tensor of an update or partial, whole and in its shape."""
    tensor = source.tensors[name]
    buffer = np.empty(tensor.count * tensor.dtype.itemsize, np.uint8)
    return source.view(tensor.dtype, tensor.start, tensor.count, buffer).reshape(tensor.shape)


def _counts(meta: Meta) -> tuple[int, int]:
    """Returns the number of updates in a partial, and their total weight."""
    try:
        count, weight = meta["partial"]["count"], meta["partial"]["weight"]
    except (KeyError, TypeError) as error:
        raise InvalidUpdate("the blob is not a partial: its metadata lacks one") from error
    if not (is_natural(count, weight) and weight >= count):
        raise InvalidUpdate("the partial's metadata is garbled")
    return count, weight


def is_natural(*numbers: Any) -> bool:
    """Returns whether all are integers of at least 0."""
    return all(type(number) is int and number >= 0 for number in numbers)
