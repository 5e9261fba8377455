from typing import Any

import numpy as np
import pytest

from fedmq.aggregation import Accumulator
from fedmq.aggregation.arrangement import BLOCK
from fedmq.errors import InvalidUpdate
from fedmq.tensors import spec_of
from fedmq.tensors.tensorblob import Source, decode, encode

SPEC = spec_of({"a/b": np.zeros((2, 2), np.float32), "c": np.zeros(1, np.float32)})
EXPONENTS = {"a/b": -46, "c": -46}


def accumulator(*values: float) -> Accumulator:
    total = Accumulator(SPEC, EXPONENTS)
    for value in values:
        update = {"a/b": np.full((2, 2), value, np.float32), "c": np.zeros(1, np.float32)}
        total.fold(Source(encode(update)), 2)
    return total


def tampered(blob: bytes, path: list[str], value: Any) -> Source:
    weights, meta = decode(blob)
    part: Any = meta
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return Source(encode(weights, meta))


def test_a_partial_can_be_read_by_hand() -> None:
    weights, meta = decode(accumulator(1.0, -0.25).dump())
    assert {name: values.tolist() for name, values in weights.items()} == {"0/a/b": [[1.5 * 2**46] * 2] * 2}
    assert meta == {
        "partial": {
            "count": 2,
            "weight": 4,
            "exponents": EXPONENTS,
            "maxima": {"0/a/b": 2.5 * 2**46},
            "largest": {"a/b": [2.0, 0.5]},
        }
    }


def test_large_tensors_are_written_and_merged_in_blocks() -> None:
    values = np.arange(2 * BLOCK + 3, dtype=np.float32)
    total = Accumulator(spec_of({"x": values}), {"x": -20})
    total.fold(Source(encode({"x": values})), 3)
    total.fold_partial(Source(total.dump()))
    assert total.count == 2
    np.testing.assert_array_equal(total.finish()["x"], values)


GOOD = accumulator(1.0).dump()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["partial", "exponents", "c"], -47, "other exponents"),
        (["partial", "count"], -1, "garbled"),
        (["partial", "count"], 3, "garbled"),
        (["partial", "weight"], 2.0, "garbled"),
        (["partial", "maxima", "0/a/b"], 2**47 - 1, "exceeds what it declares"),
        (["partial", "maxima", "0/a/b"], 10**40, "capacity"),
        (["partial", "maxima", "0/a/b"], True, "garbled"),
        (["partial", "maxima"], [], "garbled"),
        (["partial", "maxima"], {}, "not those that it declares"),
        (["partial", "largest"], {"a/b": [1.0]}, "garbled"),
        (["partial", "largest"], {"a/b": [1.0, "x"]}, "garbled"),
        (["partial", "exponents"], {"a/b": "x"}, "garbled"),
        (["partial", "surprise"], 1, "not a partial"),
        (["partial"], 1, "not a partial"),
        (["other"], 1, None),
    ],
)
def test_a_partial_that_contradicts_itself_is_refused_and_changes_nothing(
    path: list[str], value: Any, reason: str | None
) -> None:
    total = accumulator(4.0)
    before = total.dump()
    if reason is None:
        total.fold_partial(tampered(GOOD, path, value))
        return
    with pytest.raises(InvalidUpdate, match=reason):
        total.fold_partial(tampered(GOOD, path, value))
    assert total.dump() == before


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("0/z", np.zeros(1, np.int64), "of no tensor of the model"),
        ("x/c", np.zeros(1, np.int64), "of no tensor of the model"),
        ("-0/c", np.zeros(1, np.int64), "of no tensor of the model"),
        ("9999/c", np.zeros(1, np.int64), "of no tensor of the model"),
        ("0/c", np.zeros(2, np.int64), "another dtype or shape"),
        ("0/c", np.zeros(1, np.float64), "another dtype or shape"),
    ],
)
def test_sums_that_do_not_belong_are_refused(name: str, array: np.ndarray, reason: str) -> None:
    weights, meta = decode(GOOD)
    meta["partial"]["maxima"][name] = 1
    with pytest.raises(InvalidUpdate, match=reason):
        accumulator().fold_partial(Source(encode(weights | {name: array}, meta)))


def test_an_update_is_no_partial() -> None:
    update = Source(encode({"c": np.zeros(1, np.float32)}))
    with pytest.raises(InvalidUpdate, match="not a partial"):
        accumulator().fold_partial(update)


def test_sums_of_partials_that_could_overflow_are_refused() -> None:
    total = Accumulator(SPEC, EXPONENTS)
    partial = tampered(GOOD, ["partial", "maxima", "0/a/b"], 2**61)
    total.fold_partial(partial)
    total.fold_partial(partial)
    before = total.dump()
    with pytest.raises(InvalidUpdate, match="capacity"):
        total.fold_partial(partial)
    assert total.dump() == before
