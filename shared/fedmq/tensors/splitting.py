"""The two parts of a model: shared tensors, which travel, and its base, which does not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from fedmq.errors import ConfigError
from fedmq.tensors.tensorblob import Meta, Weights

if TYPE_CHECKING:
    from fedmq_schemas.policy import Tensors

LOCAL = "local"
"""The key of the base's metadata that lists its local tensors, each client's own; its others are frozen."""


def split(weights: Weights, meta: Mapping[str, Any], tensors: Tensors) -> tuple[Weights, Meta, Weights, Meta]:
    """Returns shared tensors and their metadata, then the base (local and frozen tensors) and its metadata.

    Raises ConfigError for a pattern without a tensor, a tensor that is named twice, and if none is left to share.
    """
    local = _named(weights, tensors.local, "local")
    frozen = _named(weights, tensors.frozen, "frozen")
    share = _named(weights, tensors.share, "share")
    for one, other, words in (
        (local, frozen, "local and frozen"),
        (local, share, "local and shared"),
        (frozen, share, "frozen and shared"),
    ):
        if one & other:
            raise ConfigError(f"tensors: {min(one & other)!r} is both {words}")
    shared = share or weights.keys() - local - frozen
    if not shared:
        raise ConfigError("tensors: none is left to share, so there is nothing to train together")
    base = weights.keys() - shared
    return (
        {name: weights[name] for name in weights if name in shared},
        _meta_of(meta, shared),
        {name: weights[name] for name in weights if name in base},
        {**_meta_of(meta, base), LOCAL: sorted(local)},
    )


def join(shared: Weights, meta: Mapping[str, Any], base: Weights, base_meta: Mapping[str, Any]) -> tuple[Weights, Meta]:
    """Returns a model and its base as one. Local tensors are as they were in the seed."""
    roles = {**base_meta.get("roles", {}), **meta.get("roles", {})}
    return {**base, **shared}, {**meta, **({"roles": roles} if roles else {})}


def _named(weights: Weights, patterns: tuple[str, ...], what: str) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        names = {name for name in weights if fnmatchcase(name, pattern)}
        if not names:
            some = ", ".join(sorted(weights)[:3])
            raise ConfigError(f"tensors.{what}: {pattern!r} names no tensor of this model; it has {some}, …")
        found |= names
    return found


def _meta_of(meta: Mapping[str, Any], names: set[str]) -> Meta:
    roles = {name: role for name, role in meta.get("roles", {}).items() if name in names}
    rest = {key: value for key, value in meta.items() if key != "roles"}
    return rest | ({"roles": roles} if roles else {})
