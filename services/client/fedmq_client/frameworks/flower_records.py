"""Converts Flower's records from and to named arrays. Flower is imported only after the user's code has imported it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.model_files.naming import in_order, is_list, plain
from fedmq.tensors import Weights
from fedmq_client.checks import InvalidResult, without_values

CODE_OK = 0
_OTHERS = "records.json"
"""The key in `task.state` of all records that hold no arrays. The arrays of the others are `RECORD/ARRAY`."""


def is_numpy_client(found: Any) -> bool:
    """Returns whether `found` has the methods of a NumPyClient."""
    return callable(getattr(found, "fit", None)) and callable(getattr(found, "evaluate", None))


def is_flowers_own(numpy_client: Any, method: str) -> bool:
    """Returns whether a client does not define this method, but inherits it from Flower's base class or lacks it."""
    found = getattr(type(numpy_client), method, None)
    return found is None or getattr(found, "__module__", "").partition(".")[0] == "flwr"


def listed(arrays: Iterable[Any]) -> Weights:
    """Returns a list of arrays under the names `0` … `n-1`."""
    return {str(number): np.asarray(array) for number, array in enumerate(arrays)}


def as_sent(weights: Weights) -> Weights:
    """Returns weights in the order of a list, named as in their framework: without positions, if that is unambiguous."""
    names = in_order(weights)
    short = {plain(name) for name in names}
    return {plain(name) if len(short) == len(names) else name: weights[name] for name in names}


def renamed(names: Sequence[str], found: Mapping[str, NDArray[Any]]) -> Weights:
    """Returns the arrays of an answer, which are named or a list, under the model's `names`, which are in order."""
    if set(found) == set(names):
        return dict(found)
    if len(found) != len(names):
        raise without_values(f"the Flower client returned {len(found)} arrays and not {len(names)}")
    if is_list(found):
        return {name: found[str(number)] for number, name in enumerate(names)}
    short = {plain(name): name for name in names}
    if set(found) != set(short):
        raise InvalidResult(
            f"the Flower client returned arrays of other names: {', '.join(sorted(set(found) - set(short))[:3])}"
        )
    return {short[name]: array for name, array in found.items()}


def arrays(weights: Weights) -> Any:
    """Returns an ArrayRecord."""
    flower = import_module("flwr.app")
    return flower.ArrayRecord({name: flower.Array(np.ascontiguousarray(array)) for name, array in weights.items()})


def config(values: Mapping[str, Any]) -> Any:
    """Returns a ConfigRecord."""
    return import_module("flwr.app").ConfigRecord(dict(values))


def only(content: Any, kind: str) -> Any:
    """Returns the only record of a kind in an answer. Raises InvalidResult if there is none, or more than one."""
    found = list(getattr(content, kind).values())
    if len(found) != 1:
        raise without_values(f"the ClientApp's answer has {len(found)} {kind.replace('_', ' ')} and not one")
    return found[0]


def state_to(state: Any) -> Weights:
    """Returns Flower's `context.state` as named arrays."""
    kept: Weights = {}
    others = {}
    for name, record in state.items():
        kind = type(record).__name__
        if kind == "ArrayRecord":
            kept |= {f"{name}/{key}": array.numpy() for key, array in record.items()}
        else:
            others[name] = {"kind": kind, "values": dict(record)}
    if others:
        text = json.dumps(others, default=_bytes_to)
        kept[_OTHERS] = np.frombuffer(text.encode(), np.uint8).copy()
    return kept


def state_from(kept: Mapping[str, NDArray[Any]]) -> Any:
    """Returns `context.state`, a RecordDict, from named arrays."""
    flower = import_module("flwr.app")
    grouped: dict[str, Weights] = {}
    for key, array in kept.items():
        if key != _OTHERS:
            name, _, inner = key.partition("/")
            grouped.setdefault(name, {})[inner] = array
    found = {name: arrays(weights) for name, weights in grouped.items()}
    if _OTHERS in kept:
        for name, other in json.loads(kept[_OTHERS].tobytes(), object_hook=_bytes_from).items():
            found[name] = getattr(flower, other["kind"])(other["values"])
    return flower.RecordDict(found)


def _bytes_to(value: Any) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}


def _bytes_from(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
