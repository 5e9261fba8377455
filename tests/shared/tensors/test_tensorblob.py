import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fedmq.errors import InvalidUpdate
from fedmq.tensors.tensorblob import DTYPES, Source, Weights, canonical, decode, encode, header

WEIGHTS: Weights = {
    "0/kernel": np.array([[1.5, -2.0], [0.25, 3.0]], np.float32),
    "0/bias": np.array([1.0, 2.0, 3.0], np.float32),
    "steps": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float64),
    "mask": np.array([True, False]),
}
META = {"roles": {"steps": "counter", "0/bias": "trainable"}, "round": 3}


def blob_with_header(entries: object, data: bytes = b"") -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


def assert_same(left: Weights, right: Weights) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        np.testing.assert_array_equal(array, right[name])


def test_decode_gives_back_what_was_encoded() -> None:
    weights, meta = decode(encode(WEIGHTS, META))
    assert_same(weights, WEIGHTS)
    assert meta == META


def test_equal_tensors_give_equal_bytes_whatever_order_they_come_in() -> None:
    shuffled = dict(reversed(WEIGHTS.items()))
    again = {"round": 3, "roles": {"0/bias": "trainable", "steps": "counter"}}
    assert encode(WEIGHTS, META) == encode(shuffled, again)


def test_memory_layout_and_byte_order_do_not_show_in_the_bytes() -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    big = kernel.astype(">f4")
    fortran = np.asfortranarray(kernel)
    assert encode({"a": kernel}) == encode({"a": big}) == encode({"a": fortran})


def test_the_library_reads_our_blobs() -> None:
    assert_same(safetensors.numpy.load(encode(WEIGHTS, META)), WEIGHTS)


def test_we_read_the_blobs_of_the_library() -> None:
    weights, meta = decode(safetensors.numpy.save(WEIGHTS, metadata={"format": "np"}))
    assert_same(weights, WEIGHTS)
    assert meta == {}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_allowed_dtype_crosses(dtype: np.dtype) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    assert_same(decode(encode({"x": array}))[0], {"x": array})


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.array(["text"]), np.zeros(2, complex), np.zeros(2, "M8[s]")],
    ids=["object", "str", "complex", "datetime"],
)
def test_other_dtypes_are_refused_by_name(array: np.ndarray) -> None:
    with pytest.raises(InvalidUpdate, match="tensor 'bad' is of dtype"):
        encode({"bad": array})


def test_decoded_tensors_are_read_only_views_of_the_blob() -> None:
    blob = encode(WEIGHTS)
    array = decode(blob)[0]["0/kernel"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        decode(bytearray(blob))[0]["0/kernel"][0, 0] = 1


def test_tensors_are_aligned_for_their_dtype() -> None:
    for tensor in Source(encode(WEIGHTS)).tensors.values():
        assert tensor.start % tensor.dtype.itemsize == 0


@pytest.mark.parametrize("size", [0, 7, 8, 40, -1])
def test_a_truncated_blob_is_refused(size: int, tmp_path: Path) -> None:
    blob = encode(WEIGHTS, META)[:size]
    with pytest.raises(InvalidUpdate, match="truncated"):
        decode(blob)
    file = tmp_path / "blob"
    file.write_bytes(blob)
    with pytest.raises(InvalidUpdate, match="truncated"):
        Source(file)


GOOD = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("entries", "data", "reason"),
    [
        (b"not json", b"", "garbled"),
        (b"[" * 100_000, b"", "garbled"),
        (b"\xff\xfe", b"", "garbled"),
        ([1], b"", "not an object"),
        ({"x": 1}, b"", "no dtype"),
        ({"x": {"dtype": "F32", "shape": [1]}}, b"", "no dtype, shape and data_offsets"),
        ({"x": GOOD | {"dtype": "BF16"}}, b"1234", "dtype 'BF16'"),
        ({"x": GOOD | {"dtype": ["F32"]}}, b"1234", "dtype"),
        ({"x": GOOD | {"shape": [-1]}}, b"1234", "not whole numbers"),
        ({"x": GOOD | {"shape": [True]}}, b"1234", "not whole numbers"),
        ({"x": GOOD | {"shape": [1.0]}}, b"1234", "not whole numbers"),
        ({"x": GOOD | {"shape": [2]}}, b"1234", "do not fit"),
        ({"x": GOOD | {"data_offsets": [4, 0]}}, b"1234", "do not fit"),
        ({"x": GOOD | {"data_offsets": [0]}}, b"1234", "not whole numbers"),
        ({"x": GOOD, "y": GOOD}, b"1234", "do not fit"),
        ({"x": GOOD | {"data_offsets": [4, 8]}}, b"12345678", "do not fit"),
        ({"x": GOOD}, b"12345678", "it has .* bytes"),
        (b'{"x": 1, "x": 2}', b"", "'x' is there twice"),
        ({"__metadata__": "text"}, b"", "metadata"),
        ({"__metadata__": {"fedmq": 3}}, b"", "metadata"),
        ({"__metadata__": {"fedmq": "[]"}}, b"", "not an object"),
        ({"__metadata__": {"fedmq": "{"}}, b"", "garbled"),
    ],
)
def test_a_garbled_header_is_refused_with_its_reason(entries: object, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidUpdate, match=reason):
        Source(blob_with_header(entries, data))


def test_a_header_of_unbelievable_length_is_not_read() -> None:
    with pytest.raises(InvalidUpdate, match="not safetensors"):
        Source(b"\xff" * 100)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_garbage_never_raises_anything_else(noise: bytes, at: int) -> None:
    blob = bytearray(encode(WEIGHTS, META))
    blob[at : at + len(noise)] = noise
    with contextlib.suppress(InvalidUpdate):
        decode(blob)


def test_a_file_is_read_in_pieces_into_the_given_buffer(tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.float32)
    file = tmp_path / "blob"
    file.write_bytes(encode({"x": array}))
    buffer = np.empty(16, np.uint8)
    with Source(file) as source:
        tensor = source.tensors["x"]
        first = source.view(tensor.dtype, tensor.start, 4, buffer)
        assert first.tolist() == [0, 1, 2, 3]
        assert np.shares_memory(first, buffer)
        assert source.view(tensor.dtype, tensor.start + 16, 4, buffer).tolist() == [4, 5, 6, 7]


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(encode({"x": np.arange(10, dtype=np.float32)}))
    with Source(file) as source:
        tensor = source.tensors["x"]
        file.write_bytes(file.read_bytes()[: tensor.start + 8])
        with pytest.raises(InvalidUpdate, match="cut short"):
            source.view(tensor.dtype, tensor.start, 10, np.empty(40, np.uint8))


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(encode(WEIGHTS))
    source = Source(file)
    source.close()
    source.close()


def test_changing_metadata_that_was_read_changes_no_other_reading() -> None:
    blob = encode(WEIGHTS, META)
    decode(blob)[1]["roles"]["steps"] = "constant"
    assert decode(blob)[1] == META


def test_the_reserved_name_is_refused() -> None:
    with pytest.raises(InvalidUpdate, match="__metadata__"):
        header({"__metadata__": np.zeros(1, np.float32)}, {})


def test_canonical_json_has_one_spelling() -> None:
    assert canonical({"b": [1, 2], "a": "é"}) == '{"a":"\\u00e9","b":[1,2]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


def test_a_long_header_is_not_remembered() -> None:
    blob = encode({"x": np.zeros(3, np.float32)}, {"note": "n" * 300_000})
    assert Source(blob).layout is not Source(blob).layout
