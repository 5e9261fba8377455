"""Blobs, safetensors and linear regression for `plain_amqp_client.py`, with the standard library alone."""

import hashlib
import json
import math
import struct
import time
import urllib.error
import urllib.request
from array import array
from typing import Any

Tensors = dict[str, tuple[str, list[int], "array[Any]"]]  # by name: dtype, shape, values
Rows = list[list[float]]
DELTAS = {"F64": ("F64", "d"), "F32": ("F32", "f"), "F16": ("F32", "f"), "BF16": ("F32", "f")}  # all others: I64


class NoAnswer(Exception):
    """Nobody waits for an answer any more."""


class UrlExpired(Exception):
    """The store no longer accepts a URL of the task or its ticket."""


# -- blobs --------------------------------------------------------------------------------------------------------------


def http(method: str, url: str, data: bytes | None, until: float, headers: dict[str, str] | None = None) -> bytes:
    """Returns the answer. Repeats what may succeed later (R-HTTP-1). Raises UrlExpired after a 403 (R-HTTP-2)."""
    request = urllib.request.Request(url, data, headers or {}, method=method)  # R-HTTP-3: a ticket's as they are
    pause = 0.2
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 403:
                raise UrlExpired from error
            if error.code < 500 and error.code not in (408, 425, 429):
                raise
        except (OSError, ValueError) as error:
            print(f"{method} is repeated: {error}", flush=True)
        if time.monotonic() + pause > until:
            raise NoAnswer
        time.sleep(pause)
        pause = min(5.0, 2 * pause)


def fetch(url: str, blob: dict[str, Any], until: float) -> bytes:
    """Returns the blob. Raises ValueError if it is not the one that the task names."""
    data = http("GET", url, None, until)
    if len(data) != blob["size"] or hashlib.sha256(data).hexdigest() != blob["sha256"]:
        raise ValueError(f"{blob['key']} has another size or SHA-256 than the task states")
    return data


def read(data: bytes) -> tuple[Tensors, dict[str, Any]]:
    """Returns the tensors of a safetensors file, with values where they are F32 or F64, and FedMQ's metadata."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    meta = json.loads(header.pop("__metadata__", {}).get("fedmq", "{}"))
    found = {}
    for name, tensor in header.items():
        first, end = tensor["data_offsets"]
        form = {"F32": "f", "F64": "d"}.get(tensor["dtype"])
        found[name] = (
            tensor["dtype"],
            tensor["shape"],
            array(form, data[start + first : start + end]) if form else array("f"),
        )
    return found, meta


def write(tensors: Tensors) -> bytes:
    """Returns the tensors as a safetensors file. An update needs no metadata (R-DELTA-3)."""
    header, body = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(body), len(body) + len(values) * values.itemsize],
        }
        body += values.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# -- the model ----------------------------------------------------------------------------------------------------------


def errors(model: Tensors, rows: Rows) -> list[float]:
    slopes, intercept = model["coefficients"][2], model["intercept"][2][0]
    if any(len(row) != len(slopes) + 1 for row in rows):  # R-DECLINE-1: an update of another shape would be rejected
        raise ValueError(f"each row must hold the {len(slopes)} features of the model and the value to predict")
    return [sum(a * b for a, b in zip(slopes, row, strict=False)) + intercept - row[-1] for row in rows]


def step(model: Tensors, shared: Tensors, meta: dict[str, Any], clip_norm: float | None, rows: Rows) -> Tensors:
    """Returns new minus received for each shared tensor, after one step down the gradient."""
    rate, wrong, roles = 0.1 / len(rows), errors(model, rows), meta.get("roles", {})
    slopes = [-rate * sum(e * row[n] for e, row in zip(wrong, rows, strict=True)) for n in range(len(rows[0]) - 1)]
    trained = {"coefficients": slopes, "intercept": [-rate * sum(wrong)]}
    delta = {}
    for name, (dtype, shape, _) in shared.items():  # base tensors are left out (R-FROZEN-1)
        kind, form = DELTAS.get(dtype, ("I64", "q"))  # R-DELTA-1
        keeps = name not in trained or roles.get(name) == "constant"  # R-ROLE-1
        delta[name] = (kind, shape, array(form, [0] * math.prod(shape) if keeps else trained[name]))
    moved = [name for name in trained if roles.get(name, "trainable") == "trainable" and name in delta]
    norm = math.sqrt(sum(x * x for name in moved for x in delta[name][2]))
    if not math.isfinite(norm):
        raise ValueError("the update is not finite")  # R-DELTA-2
    if clip_norm is not None and norm > clip_norm:  # R-CLIP-1
        for name in moved:
            kind, shape, values = delta[name]
            delta[name] = (kind, shape, array(values.typecode, [x * clip_norm / norm for x in values]))
    return delta
