"""Named tensors: their specs and roles, and the difference between two models.

Weights are a `dict` of numpy arrays by name. Their bytes are safetensors (`tensorblob`); a client
sends the *delta* of what it trained to the model that it started from.

| tensor of the model | its delta | the committed model |
|---|---|---|
| float32, float16 | float32, the difference rounded once | float32 |
| float64 | float64 | float64 |
| integers, bool | int64, exact | the same dtype |
| any dtype, with the role opaque | uint8, the new bytes | the same dtype |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

from fedmq.errors import InvalidUpdate
from fedmq.tensors.opaque import BYTE, named_opaque, to_bytes
from fedmq.tensors.tensorblob import Array, Shaped, Weights, supported

_FLOAT32 = np.dtype("<f4")
_FLOAT64 = np.dtype("<f8")
_INT64 = np.dtype("<i8")

MAX_COUNTER_DELTA = 2**53
"""An integer tensor may change by less than this in one update, so that float64 holds it
exactly."""


class TensorRole(StrEnum):
    """How a tensor is aggregated, from the model's metadata: `{"roles": {name: role}}`.

    With another rule than the mean, read its result for "mean delta".
    """

    TRAINABLE = "trainable"
    """The server optimizer acts on its mean delta. The default of floats."""
    STATISTIC = "statistic"
    """Batch-norm means and variances: they change by the mean delta, without the server optimizer."""
    COUNTER = "counter"
    """Integers: they change by the mean delta, rounded half to even. The default of integers."""
    CONSTANT = "constant"
    """Equal everywhere; an update that changes it is invalid. The default of bool."""
    OPAQUE = "opaque"
    """Bytes that cannot be averaged, such as a tree model or a text: kept exactly. A round may have one client only."""


_ROLES_OF_FLOATS = (TensorRole.TRAINABLE, TensorRole.STATISTIC, TensorRole.CONSTANT, TensorRole.OPAQUE)
_ROLES_OF_INTEGERS = (TensorRole.COUNTER, TensorRole.CONSTANT, TensorRole.OPAQUE)
_ROLES_OF_BOOL = (TensorRole.CONSTANT, TensorRole.OPAQUE)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model: shape, dtype (little-endian) and role."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    role: TensorRole

    @property
    def size(self) -> int:
        """Returns the number of elements."""
        return math.prod(self.shape)

    @property
    def delta_dtype(self) -> np.dtype[Any]:
        """Returns the dtype of this tensor in an update."""
        return BYTE if self.role is TensorRole.OPAQUE else _delta_dtype(self.dtype)

    @property
    def delta_shape(self) -> tuple[int, ...]:
        """Returns the shape of this tensor in an update."""
        return (*self.shape, self.dtype.itemsize) if self.role is TensorRole.OPAQUE else self.shape

    @property
    def delta_size(self) -> int:
        """Returns the number of elements of this tensor in an update."""
        return math.prod(self.delta_shape)

    @property
    def is_whole(self) -> bool:
        """Returns whether an update of this tensor holds whole numbers, which need no scale."""
        return self.role in (TensorRole.COUNTER, TensorRole.OPAQUE)


Spec: TypeAlias = Mapping[str, TensorSpec]


def spec_of(model: Mapping[str, Shaped], meta: Mapping[str, Any] | None = None) -> dict[str, TensorSpec]:
    """Returns shape, dtype and role of each tensor of a model, by name.

    `model` is weights, or `Source.tensors` where only the header has been read; `meta` is the
    model's metadata. Roles that it does not name are the defaults of `TensorRole`. Raises `InvalidUpdate`
    for a role that is unknown, that does not suit the dtype, or that belongs to no tensor.
    """
    roles = (meta or {}).get("roles", {})
    if not isinstance(roles, Mapping):
        raise InvalidUpdate("the model's roles are not a map of tensor names to roles")
    unknown = sorted(set(roles) - set(model))
    if unknown:
        raise InvalidUpdate(f"roles are given for tensors that the model does not have: {_three(unknown)}")
    spec = {}
    for name, tensor in model.items():
        dtype = supported(name, tensor.dtype)
        allowed = {"f": _ROLES_OF_FLOATS, "b": _ROLES_OF_BOOL}.get(dtype.kind, _ROLES_OF_INTEGERS)
        role = roles.get(name, allowed[0])
        if role not in allowed:
            raise InvalidUpdate(f"tensor {name!r} of dtype {dtype} can be {' or '.join(allowed)}, not {role!r}")
        spec[name] = TensorSpec(tuple(tensor.shape), dtype, TensorRole(role))
    return spec


def check_roles_stated(model: Mapping[str, Shaped], meta: Mapping[str, Any]) -> None:
    """Raises `InvalidUpdate`, with the choices, for integers that are no single number and whose role nobody has stated.

    Such integers are positions, tables or bytes more often than counters, whose mean is the default.
    """
    roles = meta.get("roles", {})
    found = [name for name, tensor in model.items() if tensor.dtype.kind in "iu" and math.prod(tensor.shape) > 1]
    unstated = sorted(name for name in found if name not in roles)
    if unstated:
        name = unstated[0]
        more = f" (and {len(unstated) - 1} more)" if len(unstated) > 1 else ""
        raise InvalidUpdate(
            f"tensor {name!r}{more} holds integers, {model[name].dtype} {list(model[name].shape)}, and has no role: state "
            f"one, {{{name!r}: ROLE}}, in the trainer's roles(), under roles in fedn.yaml, or by `fedmq seed --role`: "
            "constant (equal everywhere, such as position ids), counter (averaged and rounded) or opaque (bytes, such as a "
            "tree model: one client in each round)"
        )


def check(update: Mapping[str, Shaped], spec: Spec) -> None:
    """Checks that an update (its arrays, or `Source.tensors`) has the names, shapes and delta dtypes of a model.

    Raises `InvalidUpdate`, which lists the first three faults.
    """
    _same_names(update, spec, "update")
    wrong = []
    for name, tensor in update.items():
        expected = spec[name]
        if tensor.shape != expected.delta_shape:
            wrong.append(f"{name!r} has shape {list(tensor.shape)} and not {list(expected.delta_shape)}")
        elif tensor.dtype != expected.delta_dtype:
            wrong.append(f"{name!r} is {tensor.dtype} and not {expected.delta_dtype}")
    if wrong:
        raise InvalidUpdate(f"tensors do not fit the model: {_three(wrong)}")


def delta(new: Mapping[str, Array], old: Mapping[str, Array], meta: Mapping[str, Any] | None = None) -> Weights:
    """Returns what training changed: `new - old` by name, in the dtypes of the table at the top.

    `meta` is the metadata of `old`, which names opaque tensors.

    Raises `InvalidUpdate` if names, shapes or dtypes differ, or if an integer changed by 2^53 or
    more. NaN and infinity pass: the combiner rejects them when it folds the update, with the reason on record.
    """
    _same_names(new, old, "trained model")
    changed = {}
    opaque = named_opaque(meta)
    with np.errstate(invalid="ignore", over="ignore"):
        for name, before in old.items():
            after = np.asarray(new[name])
            if after.shape != before.shape or after.dtype != before.dtype:
                raise InvalidUpdate(
                    f"tensor {name!r} was returned as {after.dtype} {list(after.shape)} "
                    f"and was {before.dtype} {list(before.shape)}"
                )
            changed[name] = to_bytes(after) if name in opaque else _difference(name, after, before)
    return changed


def apply(model: Mapping[str, Array], step: Mapping[str, Array]) -> Weights:
    """Returns the next model: `old + step` by name, computed in float64, then rounded once to float32.

    A float64 tensor stays float64, float16 becomes float32. Negative zero becomes zero, so that equal models have equal
    bytes. An integer tensor's step is rounded half to even. A tensor without a step stays as it is. Raises
    `InvalidUpdate` if the result is not finite.
    """
    new = {}
    for name, old in model.items():
        wide = np.promote_types(old.dtype, np.float32) if old.dtype.kind == "f" else old.dtype
        if name not in step:
            new[name] = old.astype(wide)
        elif old.dtype.kind == "f":
            total = np.add(old, step[name], dtype=np.float64)
            with np.errstate(over="ignore"):
                new[name] = np.asarray(np.asarray(total, wide) + wide.type(0))
            if not np.isfinite(new[name]).all():
                raise InvalidUpdate(f"tensor {name!r} of the new model is not finite")
        else:
            whole = np.rint(step[name]).astype(np.int64)
            new[name] = np.asarray(old.astype(np.int64) + whole).astype(old.dtype)
    return new


def _delta_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind != "f":
        return _INT64
    return _FLOAT64 if dtype.itemsize == 8 else _FLOAT32


def _difference(name: str, new: Array, old: Array) -> Array:
    dtype = _delta_dtype(supported(name, old.dtype))
    if dtype.kind == "f":
        return np.asarray(np.subtract(new, old, dtype=dtype))
    # int64 wraps around; the float64 difference, which does not, says whether it did.
    exact = np.asarray(np.subtract(new.astype(np.int64), old.astype(np.int64)))
    about = np.abs(np.subtract(new, old, dtype=np.float64)) if old.dtype.kind != "b" else np.abs(exact)
    if about.size and about.max() >= MAX_COUNTER_DELTA:
        raise InvalidUpdate(f"the integer tensor {name!r} changed by 2^53 or more")
    return exact


def _same_names(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    if found.keys() == expected.keys():
        return
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    faults = []
    if missing:
        faults.append(f"lacks {_three([repr(name) for name in missing])}")
    if unknown:
        faults.append(f"has the unknown {_three([repr(name) for name in unknown])}")
    raise InvalidUpdate(f"the {what} {' and '.join(faults)}")


def _three(items: Sequence[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more
