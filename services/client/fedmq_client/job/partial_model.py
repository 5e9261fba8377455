"""A task's model if only a part travels: local tensors are in this client's state, frozen ones in the base. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from fedmq.errors import InvalidUpdate
from fedmq.tensors import Source, TensorRole, Weights, encode, spec_of
from fedmq.tensors.splitting import LOCAL
from fedmq.value import value

KEPT = "fedmq.local/"
"""Begins a local tensor's name in the state that is kept beside `task.state`."""


@value
class Whole:
    """All tensors of a task's model.

    - `shared`: the session's model.
    - `base`: the tensors that do not travel with it. `base_meta` names those that are this client's own.
    - `kept`: the client's own tensors after its last training.
    """

    shared: Weights
    meta: dict[str, Any] = field(default_factory=dict)
    base: Weights = field(default_factory=dict)
    base_meta: Mapping[str, Any] = field(default_factory=dict)
    kept: Weights = field(default_factory=dict)

    @property
    def weights(self) -> Weights:
        """The weights that the trainer receives."""
        return {**self.base, **self.kept, **self.shared} if self.base else self.shared

    @property
    def frozen(self) -> frozenset[str]:
        """The names of the tensors that never change."""
        return frozenset(self.base) - set(self.base_meta.get(LOCAL, ()))

    def changed(self, new: Weights) -> list[str]:
        """Returns the names of the frozen tensors that the trainer changed. Their new values are not used."""
        return [
            name
            for name, value in self.base.items()
            if name in self.frozen and not np.array_equal(new[name], value, equal_nan=value.dtype.kind == "f")
        ]

    def shared_of(self, new: Weights) -> Weights:
        """Returns the part of the trainer's new weights that is sent."""
        return {name: new[name] for name in self.shared} if self.base else new

    def local_of(self, new: Weights) -> Weights:
        """Returns the local tensors under the names by which they are kept."""
        return {KEPT + name: new[name] for name in self.base_meta.get(LOCAL, ()) if name in self.base}


def kept_and_state(kept: Weights) -> tuple[Weights, Weights]:
    """Splits a kept state into local tensors, by their own names, and `task.state`."""
    local = {name.removeprefix(KEPT): value for name, value in kept.items() if name.startswith(KEPT)}
    return local, {name: value for name, value in kept.items() if not name.startswith(KEPT)}


def clipped(delta: Weights, model: Weights, meta: Mapping[str, Any], clip_norm: float | None) -> Weights:
    """Returns the delta with its trainable tensors scaled so that their L2 norm together is at most `clip_norm`.

    A delta that can't be summed is returned as it is: the combiner rejects it with the reason.
    """
    if clip_norm is None:
        return delta
    from fedmq.aggregation import l2_norm  # a quarter of a worker's start, and few policies clip

    spec = spec_of(model, meta)
    try:
        norm = l2_norm(Source(encode(delta)), spec)
    except InvalidUpdate:
        return delta
    if norm <= clip_norm:
        return delta
    scale = clip_norm / norm
    return {
        name: (value.astype(np.float64) * scale).astype(value.dtype)
        if spec[name].role is TensorRole.TRAINABLE
        else value
        for name, value in delta.items()
    }
