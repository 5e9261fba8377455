"""Checks the first model that a trainer's `init` makes, and compares a session's model with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq.errors import ConfigError, InvalidUpdate
from fedmq.model_files import dtypes
from fedmq.model_files.naming import in_order, is_list, matched, plain
from fedmq.tensors import Weights
from fedmq_client.checks import OPAQUE, InvalidResult, Note, kind

TEXTS_AND_OBJECTS = "SUOV"
"""Kinds of dtypes that hold no numbers."""


def first_weights(found: Any, meta: Mapping[str, Any], note: Note) -> Weights:
    """Returns what `init` returned as a model holds it: half precision is widened to float32, with a note.

    `meta`: the model's metadata, with its roles. Raises InvalidResult, with the remedy, for what can't be a model.
    """
    if not isinstance(found, Mapping) or not found:
        more = "" if found is None or isinstance(found, (Mapping, list, tuple)) else f"; {OPAQUE}"
        raise InvalidResult(f"init returned {kind(found)}: return a dict of named numpy arrays{more}")
    arrays = {name: np.asarray(value) for name, value in found.items()}
    for name, array in arrays.items():
        if array.dtype.kind in TEXTS_AND_OBJECTS and array.dtype.name not in dtypes.HALF:
            raise InvalidResult(
                f"init returned {kind(found[name])} as tensor {name!r}: give an array of numbers; {OPAQUE}"
            )
    try:
        weights = dtypes.widened(arrays, meta, note)
        tensors.spec_of(weights, meta)
        tensors.check_roles_stated(weights, meta)
    except (ConfigError, InvalidUpdate) as error:
        raise InvalidResult(error.reason) from error
    return weights


def misfit(model: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Returns how a model differs in names and shapes from the one that `init` makes; empty if it fits.

    Names fit as a shipped trainer accepts them: a list of arrays by their number, positional names also without positions.
    """
    names = _names(model, own)
    if names is None:
        lacking, unknown = sorted(own.keys() - model.keys()), sorted(model.keys() - own.keys())
        faults = [f"it lacks {_three(lacking)}"] if lacking else []
        faults += [f"it has {_three(unknown)}, which init does not make"] if unknown else []
        return " and ".join(faults)
    shapes = {name: (np.shape(model[name]), np.shape(own[key])) for key, name in names.items()}
    wrong = [f"{name} is {list(here)} and not {list(there)}" for name, (here, there) in shapes.items() if here != there]
    return f"it has other shapes than init makes: {_three(wrong)}" if wrong else ""


def _names(model: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the model's name for each of `own`, or None if they do not match."""
    if model.keys() == own.keys():
        return {name: name for name in own}
    keys = in_order(own)
    if is_list(own):
        return dict(zip(keys, in_order(model), strict=True)) if len(model) == len(own) else None
    if any(plain(name) == name for name in own):
        return None
    try:
        return dict(zip(keys, matched(model, keys), strict=True))
    except ConfigError:
        return None


def _three(items: Sequence[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more
