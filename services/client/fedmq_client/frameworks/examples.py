"""Checks what `data()` returns, for all frameworks. A refusal names the hook, the part of its value, and the remedy.

Examples are arrays of equal length, in tuples and dicts as the framework takes them: `x, y`, or `(x1, x2), y`. A list is one
array: its elements are the examples.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigError
from fedmq_client.checks import kind

NUMBERS = "biuf"
TEXT = "US"


def refusal(hook: str, what: str, remedy: str) -> ConfigError:
    """Returns the error for a value that `hook` must not return."""
    return ConfigError(f"{hook} returned {what}: {remedy}")


def refuse_other(found: Any, hook: str, remedy: str) -> None:
    """Raises ConfigError for what holds no examples in any framework. `remedy` says what to return."""
    if found is None:
        raise refusal(hook, "None", remedy)
    if isinstance(found, (str, bytes, os.PathLike)):
        raise refusal(hook, kind(found), f"read the file there, and {remedy}")
    if isinstance(found, Iterator):
        raise refusal(hook, kind(found), f"its examples can't be counted or shuffled; {remedy}")
    if hasattr(found, "element_spec"):
        raise refusal(hook, f"a tf.data pipeline ({type(found).__name__})", f"KerasTrainer takes one; here {remedy}")


def pair(found: Any, hook: str, remedy: str, most: int = 2) -> tuple[Any, ...]:
    """Returns `x, y` as they are, and up to `most` parts. Raises ConfigError for anything else."""
    refuse_other(found, hook, remedy)
    if not isinstance(found, (tuple, list)):
        raise refusal(hook, kind(found), remedy)
    if not 2 <= len(found) <= most:
        what = f"a tuple of {len(found)}" if isinstance(found, tuple) else f"a list of {len(found)}"
        raise refusal(hook, what, remedy)
    return tuple(found)


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Returns the tree of tuples and dicts with `function` applied to each array."""
    if isinstance(tree, tuple):
        return tuple(mapped(function, value) for value in tree)
    if isinstance(tree, Mapping):
        return {name: mapped(function, value) for name, value in tree.items()}
    return function(tree)


def checked(tree: Any, hook: str, where: str, check: Callable[[Any, str], Any]) -> Any:
    """Returns the tree with each array as `check(array, its place)` returns it. `where` names the tree: `x`."""
    if isinstance(tree, (tuple, Mapping)) and not tree:
        raise refusal(hook, f"{kind(tree)} as {where}", "return an array with a row per example")
    if isinstance(tree, tuple):
        return tuple(checked(value, hook, f"{where}[{number}]", check) for number, value in enumerate(tree))
    if isinstance(tree, Mapping):
        return {name: checked(value, hook, f"{where}[{name!r}]", check) for name, value in tree.items()}
    return check(tree, where)


def leaves(tree: Any) -> list[Any]:
    """Returns the arrays of the tree in order."""
    found: list[Any] = []
    mapped(found.append, tree)
    return found


def length(tree: Any, hook: str) -> int:
    """Returns the number of examples. Raises ConfigError if the arrays differ in it."""
    lengths = {int(array.shape[0]) for array in leaves(tree)}
    if len(lengths) > 1:
        counts = " and ".join(map(str, sorted(lengths)))
        raise refusal(
            hook, f"arrays of {counts} examples", "return arrays of equal length, and several inputs as a tuple"
        )
    return lengths.pop()


def array(value: Any, hook: str, where: str, kinds: str = NUMBERS) -> NDArray[Any]:
    """Returns the value as an array with a row per example. Raises ConfigError unless it is one of these dtype kinds."""

    def refused(what: str, remedy: str) -> ConfigError:
        return refusal(hook, f"{what} as {where}", remedy)

    if value is None:
        raise refused("None", "return an array with a row per example")
    if isinstance(value, Iterator):
        raise refused(kind(value), "make it a list or an array")
    if is_sparse(value):
        raise refused(f"a sparse matrix ({type(value).__name__})", "make it dense with .toarray()")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise refused("masked values", "fill them with .filled(value), or leave these examples out")
    try:
        found = np.asarray(value)
        if found.dtype == object:
            # Infers the dtype anew, as for a column of a DataFrame.
            found = np.asarray(found.tolist())
    except ValueError:
        raise refused("rows of different lengths", "pad or cut them to one length") from None
    if found.ndim == 0:
        raise refused(f"a single value ({kind(value)})", "return an array with a row per example")
    if found.dtype.kind not in kinds:
        what = "text" if found.dtype.kind in TEXT else f"values of type {found.dtype}"
        columns = [str(name) for name, dtype in _dtypes(value) if dtype.kind not in NUMBERS]
        if columns:
            what += f" in column {', '.join(columns[:3])}"
        raise refused(what, "make it numbers, in the same way at each site")
    return found


def is_sparse(value: Any) -> bool:
    """Whether the value is a sparse matrix or array of scipy."""
    return hasattr(value, "tocsr")


def _dtypes(value: Any) -> list[tuple[Any, Any]]:
    """Returns the columns of a pandas DataFrame and their dtypes; nothing for other values."""
    return list(value.dtypes.items()) if hasattr(value, "columns") and hasattr(value, "iloc") else []
