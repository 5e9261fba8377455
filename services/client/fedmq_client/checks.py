"""Checks what a trainer returns. Each error names the fault, and what to return instead."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from fedmq.tensors import Weights
from fedmq_schemas.limits import DEEPEST

MOST_EXAMPLES = 2**53 - 1
"""The largest number up to which float64 counts exactly."""


class InvalidResult(Exception):
    """A trainer returned a value that can't be used. The text names it, and what to return instead."""


def weights(found: Any, model: Weights) -> Weights:
    """Returns `found` as arrays in the model's dtypes. A wider float is rounded.

    Raises InvalidResult, which lists the first three wrong names, shapes or dtypes. NaN and infinity pass: the combiner
    rejects them, so that the reason is recorded.
    """
    if not isinstance(found, Mapping):
        raise InvalidResult(
            f"train returned {kind(found)} as weights: return a dict of arrays with the names that it received"
        )
    if found.keys() != model.keys():
        missing = [name for name in model if name not in found]
        unknown = [name for name in found if name not in model]
        lacks = [f"lack {_some(missing)}"] if missing else []
        has = [f"have {_some(unknown)}, which the model has not"] if unknown else []
        raise InvalidResult(f"the weights that train returned {' and '.join(lacks + has)}")
    new, wrong = {}, []
    for name, old in model.items():
        value = np.asarray(found[name])
        if value.shape == old.shape and value.dtype == old.dtype:
            pass
        elif value.shape != old.shape:
            wrong.append(f"{name} has shape {value.shape} and not {old.shape}")
        elif not np.can_cast(value.dtype, old.dtype, casting="same_kind"):
            wrong.append(f"{name} is {value.dtype} and not {old.dtype}")
        else:
            with np.errstate(over="ignore"):
                value = value.astype(old.dtype)
        new[name] = value
    if wrong:
        raise InvalidResult(f"the weights that train returned do not fit the model: {_some(wrong)}")
    return new


def state(found: Weights) -> Weights:
    """Returns `task.state` as arrays. Raises InvalidResult for a value that is no array."""
    if not found:
        return {}
    arrays = {name: np.asarray(value) for name, value in found.items()}
    wrong = [name for name, value in arrays.items() if value.dtype == object]
    if wrong:
        raise InvalidResult(f"task.state must hold numpy arrays; these are none: {_some(wrong)}")
    return arrays


def examples(step: str, found: Any) -> int:
    """Returns the number of examples. Raises InvalidResult unless it is an int from 0 to MOST_EXAMPLES."""
    whole = isinstance(found, Integral) and not isinstance(found, bool)
    if not whole or not 0 <= int(found) <= MOST_EXAMPLES:
        raise InvalidResult(f"{step} returned {found!r:.50} as examples: return an int of 0 or more")
    return int(found)


def metrics(step: str, found: Any) -> dict[str, Any]:
    """Returns metrics in the types that a message can hold. Raises InvalidResult for others."""
    if not isinstance(found, Mapping):
        raise InvalidResult(f"{step} returned {kind(found)} as metrics: return a dict of numbers")
    return {str(name): _plain(value, f"metric {name!r}") for name, value in found.items()}


def kind(value: Any) -> str:
    """Returns the name of a value's kind for an error message."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _plain(value: Any, what: str, depth: int = 0) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidResult(f"{what} is an int that 64 bits can't hold")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Mapping, list, tuple)) and depth == DEEPEST:
        raise InvalidResult(f"{what} is nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        return {str(name): _plain(item, what, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, what, depth + 1) for item in value]
    if hasattr(value, "__float__"):
        return float(value)
    raise InvalidResult(f"{what} is {kind(value)}: use numbers, strings or lists")


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(str(name) for name in names[:3]) + more
