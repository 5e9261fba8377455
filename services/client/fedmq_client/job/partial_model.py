"""A task's model, where only a part of it travels: local tensors come from this client's state, frozen ones from the
session's base. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from fedmq.tensors import TensorRole, Weights, spec_of
from fedmq.tensors.splitting import LOCAL
from fedmq.value import value
from fedmq_client.checks import InvalidResult

KEPT = "fedmq.local/"
"""Begins a local tensor's name in the state that is kept beside `task.state`."""


@value
class Whole:
    """`shared` is the session's model, `base` what does not travel with it, `local` the names of base tensors that are
    this client's own, `kept` what it has made of them."""

    shared: Weights
    meta: dict[str, Any] = field(default_factory=dict)
    base: Weights = field(default_factory=dict)
    base_meta: Mapping[str, Any] = field(default_factory=dict)
    kept: Weights = field(default_factory=dict)

    @property
    def weights(self) -> Weights:
        """What the trainer is given."""
        return {**self.base, **self.kept, **self.shared} if self.base else self.shared

    def shared_of(self, new: Weights) -> Weights:
        """The part of the trainer's new weights that is sent. Raises InvalidResult if a frozen tensor was changed."""
        local = self.base_meta.get(LOCAL, ())
        changed = [
            name
            for name, value in self.base.items()
            if name not in local and not np.array_equal(new[name], value, equal_nan=value.dtype.kind == "f")
        ]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise InvalidResult(
                f"the policy freezes {changed[0]}{more}, and train returned another value: leave it as it is"
            )
        return {name: new[name] for name in self.shared} if self.base else new

    def local_of(self, new: Weights) -> Weights:
        """The local tensors under the names that they are kept by."""
        if not self.base:
            return {}
        return {KEPT + name: new[name] for name in self.base_meta.get(LOCAL, ()) if name in self.base}


def kept_and_state(kept: Weights) -> tuple[Weights, Weights]:
    """The local tensors of what was kept, by their own names, and `task.state`."""
    if not kept:
        return {}, {}
    local = {name.removeprefix(KEPT): value for name, value in kept.items() if name.startswith(KEPT)}
    return local, {name: value for name, value in kept.items() if not name.startswith(KEPT)}


def clipped(delta: Weights, model: Weights, meta: Mapping[str, Any], clip_norm: float | None) -> Weights:
    """The delta with its trainable tensors scaled so that their L2 norm together is at most `clip_norm`."""
    if clip_norm is None:
        return delta
    spec = spec_of(model, meta)
    names = [name for name in sorted(delta) if spec[name].role is TensorRole.TRAINABLE]
    norm = float(np.sqrt(sum(float(np.square(delta[name], dtype=np.float64).sum()) for name in names)))
    if not norm > clip_norm:
        return delta
    scale = clip_norm / norm
    return {
        name: (value.astype(np.float64) * scale).astype(value.dtype) if name in names else value
        for name, value in delta.items()
    }
