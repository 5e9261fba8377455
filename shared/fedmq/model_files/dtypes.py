"""Which number types of other tools' files become which of a model's, the same for every format. Pure.

Half precision (float16, bfloat16) becomes float32, as in committed models. What else a model can't hold is refused in one
sentence, whichever format it is in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedmq.errors import ConfigError, InvalidUpdate
from fedmq.tensors import Weights, tensorblob
from fedmq.tensors.opaque import named_opaque
from fedmq.tensors.tensorblob import DTYPES, Array

HALF = ("float16", "bfloat16")
_CODES = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "C64": "complex64"}
"""One name for a type that libraries name differently."""


def refused(name: str, dtype: str) -> ConfigError:
    """Returns the refusal of a tensor whose number type no model can hold, with the remedy."""
    code = _CODES.get(dtype, dtype)
    if code.upper().startswith(("F8", "F4", "F6", "FLOAT8", "FLOAT4", "FLOAT6", "LONGDOUBLE", "FLOAT128")):
        return ConfigError(f"tensor {name!r} is {code}: save it as float32")
    known = ", ".join(str(each) for each in DTYPES.values())
    if code.startswith(("V", "void")):
        code += ", bytes without a number type (as numpy saves bfloat16)"
    return ConfigError(f"tensor {name!r} is {code}: save it as one of {known}")


def checked(name: str, array: Array, is_opaque: bool) -> Array:
    """Returns an array as a model holds it: half precision is widened, unless it is opaque. Raises `ConfigError`."""
    if array.dtype.name in HALF and not is_opaque:
        return array.astype(np.float32)
    try:
        tensorblob.supported(name, array.dtype)
    except InvalidUpdate:
        raise refused(name, array.dtype.name) from None
    return array


def widened(weights: Weights, meta: Mapping[str, Any], note: Callable[[str], None]) -> Weights:
    """Returns the tensors of a model with half precision as float32, and a note if there is any. Opaque ones are kept.

    So a trainer receives float32 in each round: a committed model holds no half precision, whatever its seed holds.
    """
    halves = [name for name, array in weights.items() if array.dtype.itemsize == 2 and array.dtype.name in HALF]
    halves = sorted(name for name in halves if name not in named_opaque(meta))
    if not halves:
        return weights
    more = f" (and {len(halves) - 1} more)" if len(halves) > 1 else ""
    found = weights[halves[0]].dtype
    note(f"tensor {halves[0]!r}{more} is {found}, and models hold float32: train and validate receive float32")
    return weights | {name: weights[name].astype(np.float32) for name in halves}


def decode(blob: bytes) -> tuple[Weights, dict[str, Any]]:
    """Returns the tensors and metadata of a safetensors file of any program, with BF16 as float32.

    Raises `InvalidUpdate` for what is not safetensors, and `ConfigError` for another number type that no model can hold.
    """
    length = int.from_bytes(blob[:8], "little")
    text = blob[8 : 8 + length]
    halves = set()
    entries = _entries(text) if len(blob) >= 8 + length else {}
    for name, entry in entries.items():
        code = entry.get("dtype") if isinstance(entry, dict) and name != "__metadata__" else None
        if code == "BF16":
            halves.add(name)
            entry["dtype"] = "U16"  # of the same size, so that all offsets stay
        elif isinstance(code, str) and code not in DTYPES:
            raise refused(name, code)
    if halves:
        text = json.dumps(entries).encode()
        blob = len(text).to_bytes(8, "little") + text + blob[8 + length :]
    weights, meta = tensorblob.decode(blob)
    for name in halves:
        weights[name] = (weights[name].astype("<u4") << 16).view("<f4")
    return weights, meta


def _entries(text: bytes) -> dict[str, Any]:
    """Returns a header's entries; none if it is garbled, which `tensorblob` explains."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
