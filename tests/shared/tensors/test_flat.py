"""A small model's update over all tensors at once is the update tensor by tensor, to the byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedmq.tensors import Weights, delta, encode
from fedmq.tensors.flat import MOST_BYTES, flat

VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def models(draw: st.DrawFn) -> tuple[Weights, Weights]:
    names = draw(st.lists(st.text("ab/0é", min_size=1, max_size=4), min_size=1, max_size=5, unique=True))
    shapes = {name: draw(SHAPES) for name in names}
    old, new = (
        {name: draw(arrays.arrays(np.float32, shape, elements=VALUES)) for name, shape in shapes.items()}
        for _ in range(2)
    )
    return old, new


@given(models(), st.sampled_from([{}, {"roles": {}}, {"note": "ä"}]))
def test_it_is_the_encoded_delta(pair: tuple[Weights, Weights], meta: dict[str, object]) -> None:
    old, new = pair
    model = flat(old, meta)
    assert model is not None
    expected = encode(delta(new, old), meta)
    assert model.update(new) == expected
    assert model.update(dict(reversed(new.items()))) == expected


def test_strides_of_a_trainers_arrays_do_not_matter() -> None:
    old = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    new = {"w": np.arange(6, 12, dtype=np.float32).reshape(3, 2).T}
    model = flat(old, {})
    assert model is not None
    assert model.update(new) == encode(delta(new, old), {})


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"w": np.zeros(3)},
        {"w": np.zeros(3, np.float32), "n": np.zeros(1, np.int64)},
        {"w": np.zeros(3, ">f4")},
        {"w": np.zeros(MOST_BYTES // 4 + 1, np.float32)},
    ],
    ids=["nothing", "float64", "a counter", "another byte order", "large"],
)
def test_others_are_not_flat(weights: Weights) -> None:
    assert flat(weights, {}) is None
