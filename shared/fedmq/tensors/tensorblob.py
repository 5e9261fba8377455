"""Named tensors as bytes: safetensors blobs, written whole and read block by block.

A blob is eight bytes of header length (little-endian), a JSON header, and the raw little-endian bytes of the tensors
(https://huggingface.co/docs/safetensors). Any safetensors reader opens these blobs, and this module opens any safetensors
blob with the dtypes below. The library is not used, because the same tensors must give the same bytes on every machine
and version, and because partial sums are written and updates are folded block by block.

Our metadata is canonical JSON under the metadata key `fedmq`. Nothing is unpickled: a blob is untrusted data, so each
claim of its header is checked before use.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import InvalidUpdate

Array: TypeAlias = NDArray[Any]
Weights: TypeAlias = dict[str, Array]
Meta: TypeAlias = dict[str, Any]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES.values())}

META_KEY = "fedmq"
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
MAX_HEADER = 64 * 2**20
_CACHED_HEADER = 256 * 2**10


class Shaped(Protocol):
    """Has a dtype and a shape: an array, or the description of a tensor."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """The place of a tensor in a blob: `count` elements of `dtype` from byte `start`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A parsed header; equal ones share an object. `tensors`: in byte order; `meta`: JSON; `size`: of the blob."""

    tensors: Mapping[str, Tensor]
    meta: str
    size: int


def canonical(value: Any) -> str:
    """Returns JSON with sorted keys and no spaces: equal values give equal text. Raises `ValueError` for NaN."""
    return _CANONICAL.encode(value)


def supported(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the little-endian form of a dtype. Raises `InvalidUpdate` unless it is one of `DTYPES`."""
    little = dtype if dtype in _CODES else dtype.newbyteorder("<")
    if little not in _CODES:
        known = ", ".join(str(known) for known in DTYPES.values())
        raise InvalidUpdate(f"tensor {name!r} is of dtype {dtype}; a blob can hold {known}")
    return little


def in_order(dtypes: Mapping[str, np.dtype[Any]]) -> list[str]:
    """Returns the names of tensors in the order in which `encode` writes their bytes."""
    return sorted(dtypes, key=lambda name: (_RANK[dtypes[name]], name))


def header(tensors: Mapping[str, Shaped], meta: Mapping[str, Any]) -> tuple[bytes, Sequence[str]]:
    """Returns a blob's header, and the names in the order of the tensors' bytes: wide dtypes first, then by name."""
    shapes = tuple((name, supported(name, tensor.dtype), tensor.shape) for name, tensor in tensors.items())
    return _header(shapes, canonical(meta) if meta else "{}")


@lru_cache(maxsize=16)
def _header(shapes: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...], meta: str) -> tuple[bytes, Sequence[str]]:
    """Caches the latest headers, because all clients of a session write the same one."""
    little = {name: dtype for name, dtype, _ in shapes}
    shape_of = {name: shape for name, _, shape in shapes}
    order = in_order(little)
    entries: dict[str, Any] = {"__metadata__": {META_KEY: meta}}
    end = 0
    for name in order:
        if name == "__metadata__":
            raise InvalidUpdate("no tensor can be named '__metadata__'")
        start, end = end, end + math.prod(shape_of[name]) * little[name].itemsize
        entries[name] = {
            "dtype": _CODES[little[name]],
            "shape": list(shape_of[name]),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, tuple(order)


def encode(weights: Mapping[str, Array], meta: Mapping[str, Any] | None = None) -> bytes:
    """Returns tensors and metadata (JSON) as one blob, the same in any order. Raises `InvalidUpdate` for other dtypes."""
    head, order = header(weights, meta or {})
    parts: list[Any] = [np.asarray(weights[name], supported(name, weights[name].dtype), order="C") for name in order]
    return b"".join([head, *parts])


def decode(blob: bytes | bytearray | memoryview) -> tuple[Weights, Meta]:
    """Returns the tensors of a blob, as read-only views of its bytes, and its metadata (empty of other programs).

    Raises `InvalidUpdate` with the reason if the blob is truncated or garbled.
    """
    source = Source(blob)
    weights: Weights = {}
    for name, tensor in source.tensors.items():
        view = source.view(tensor.dtype, tensor.start, tensor.count, _NO_BUFFER).reshape(tensor.shape)
        view.flags.writeable = False
        weights[name] = view
    return weights, source.meta


_NO_BUFFER: NDArray[np.uint8] = np.empty(0, np.uint8)


class Source:
    """A blob that is read block by block: bytes in memory, or a file, which stays open until `close`.

    Opening raises `InvalidUpdate` if the header does not fit the blob's size. The bytes must not change meanwhile.
    """

    __slots__ = ("_fd", "_memory", "layout")

    def __init__(self, blob: bytes | bytearray | memoryview | Path) -> None:
        self._fd = -1
        self._memory: memoryview | None = None
        if isinstance(blob, Path):
            self._fd = os.open(blob, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                size = os.fstat(self._fd).st_size
                length = _header_length(os.pread(self._fd, 8, 0), size)
                self.layout = _parse(os.pread(self._fd, length, 8), size)
            except BaseException:
                self.close()
                raise
        else:
            self._memory = memoryview(blob).cast("B")
            length = _header_length(bytes(self._memory[:8]), len(self._memory))
            self.layout = _parse(bytes(self._memory[8 : 8 + length]), len(self._memory))

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The place of each tensor, by its name."""
        return self.layout.tensors

    @property
    def meta(self) -> Meta:
        """Our metadata, decoded anew at each call. Empty if there is none."""
        meta: Meta = json.loads(self.layout.meta)
        return meta

    @property
    def memory(self) -> memoryview | None:
        """The whole blob, or None if it is a file."""
        return self._memory

    def view(self, dtype: np.dtype[Any], start: int, count: int, buffer: NDArray[np.uint8]) -> Array:
        """Returns `count` elements from byte `start`: a view of the blob, or of `buffer`, into which the file is read.

        The next call with the same buffer overwrites the result. A blob in memory does not use the buffer.
        """
        if self._memory is not None:
            return np.frombuffer(self._memory, dtype, count, start) if count else np.empty(0, dtype)
        into = buffer[: count * dtype.itemsize]
        filled = 0
        while filled < into.size:
            got = os.preadv(self._fd, [into[filled:].data], start + filled)
            if got == 0:
                raise InvalidUpdate("the file was cut short while it was read")
            filled += got
        return into.view(dtype)

    def close(self) -> None:
        """Closes the file, if there is one. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_header(read: Callable[[int, int], bytes], size: int) -> tuple[Mapping[str, Tensor], Meta]:
    """Returns tensors and metadata of a blob of `size` bytes by `read(offset, length)`. Raises as `Source` does."""
    first = read(0, 1 << 16)
    length = _header_length(first[:8], size)
    text = first[8 : 8 + length]
    if len(text) < length:
        text += read(len(first), 8 + length - len(first))
    layout = _parse(text, size)
    return layout.tensors, json.loads(layout.meta)


def _header_length(first: bytes, size: int) -> int:
    if len(first) < 8:
        raise InvalidUpdate(f"the blob is truncated: {size} bytes do not hold a safetensors header")
    length = int.from_bytes(first, "little")
    if length > MAX_HEADER:
        raise InvalidUpdate("the blob is not safetensors: its header would be longer than 64 MB")
    if 8 + length > size:
        raise InvalidUpdate(f"the blob is truncated: {size} bytes do not hold its header of {length} bytes")
    return length


def _parse(text: bytes, size: int) -> Layout:
    """Caches the latest small headers, because all clients of a session send the same one."""
    return _cached(text, size) if len(text) <= _CACHED_HEADER else _checked(text, size)


def _checked(text: bytes, size: int) -> Layout:
    try:
        entries = json.loads(text, object_pairs_hook=_unique)
        if not isinstance(entries, dict):
            raise ValueError("it is not an object")
        meta = _our_meta(entries.pop("__metadata__", None))
        tensors = sorted(
            ((name, *_described(name, entry)) for name, entry in entries.items()),
            key=lambda row: row[3:],
        )
        end, placed = 0, {}
        for name, dtype, shape, start, stop in tensors:
            count = math.prod(shape)
            if start != end or stop - start != count * dtype.itemsize:
                raise ValueError(f"the offsets of tensor {name!r} do not fit its shape and its neighbours")
            placed[name] = Tensor(dtype, shape, 8 + len(text) + start, count)
            end = stop
    except (ValueError, RecursionError) as error:
        raise InvalidUpdate(f"the blob's header is garbled: {error}") from error
    whole = 8 + len(text) + end
    if whole != size:
        what = "truncated" if size < whole else "garbled"
        raise InvalidUpdate(f"the blob is {what}: it has {size} bytes, its header describes {whole}")
    return Layout(placed, meta, size)


_cached = lru_cache(maxsize=16)(_checked)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found


def _our_meta(metadata: Any) -> str:
    if metadata is None or (isinstance(metadata, dict) and META_KEY not in metadata):
        return "{}"
    if not isinstance(metadata, dict) or not isinstance(metadata[META_KEY], str):
        raise ValueError("the metadata is not a map of texts")
    text: str = metadata[META_KEY]
    if not isinstance(json.loads(text), dict):
        raise ValueError(f"the metadata under {META_KEY!r} is not an object")
    return text


def _described(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"tensor {name!r} has no dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"tensor {name!r} is of dtype {code!r}; a blob can hold {', '.join(DTYPES)}")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has a shape or offsets that are not whole numbers")
    return DTYPES[code], tuple(shape), offsets[0], offsets[1]


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**48 for number in value)
