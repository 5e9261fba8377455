"""Checks the first model that a trainer's `init` makes, and compares a session's model with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq.errors import ConfigError, InvalidUpdate
from fedmq.model_files import dtypes
from fedmq.model_files.naming import matched
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


def misfit(model: Weights, own: Weights) -> str:
    """Returns how a model differs in names and shapes from what a shipped trainer's `init` makes; empty if it fits."""
    try:
        names = matched(model, list(own))
    except ConfigError as error:
        return error.reason
    shapes = ((name, model[name].shape, array.shape) for name, array in zip(names, own.values(), strict=True))
    wrong = [f"{name} is {list(here)} and not {list(there)}" for name, here, there in shapes if here != there]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return f"it has other shapes than init makes: {', '.join(wrong[:3])}{more}" if wrong else ""
