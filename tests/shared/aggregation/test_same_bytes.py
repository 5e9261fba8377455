"""The same updates give the same bytes: in any order, any grouping, with any SIMD level."""

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.aggregation import (
    SERVER_OPTIMIZERS,
    Accumulator,
    exponents,
    initial_exponents,
    next_model,
    server_optimizer,
)
from fedmq.tensors import delta, spec_of
from fedmq.tensors.tensorblob import Source, Weights, encode

META = {"roles": {"b": "statistic"}}
MODEL: Weights = {
    "a": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "b": np.linspace(1, 2, 3, dtype=np.float32),
    "d": np.linspace(-3, 3, 4),
    "n": np.array([3], np.int64),
}
SPEC = spec_of(MODEL, META)
EXPONENTS = initial_exponents(SPEC, [100, 100])

Update = tuple[bytes, int]


@st.composite
def updates(draw: st.DrawFn) -> Update:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = 10.0 ** draw(st.integers(-9, 9))
    sparse = rng.random() < 0.2
    update: Weights = {
        name: (rng.standard_normal(tensor.shape) * (0 if sparse else size)).astype(tensor.delta_dtype)
        for name, tensor in SPEC.items()
    }
    weight = draw(st.integers(1, 2000) | st.integers(1, 2**31))
    return encode(update), weight


def folded(these: list[Update]) -> bytes:
    total = Accumulator(SPEC, EXPONENTS)
    for blob, weight in these:
        total.fold(Source(blob), weight)
    return total.dump()


def in_a_tree(these: list[Update], draw: st.DataObject) -> bytes:
    """Some updates here, the others in combiners below, to any depth."""
    total = Accumulator(SPEC, EXPONENTS)
    groups = draw.draw(st.integers(1, 3))
    branch = [draw.draw(st.integers(0, groups)) for _ in these]
    pieces: list[list[Update]] = [[] for _ in range(groups + 1)]
    for update, group in zip(these, branch, strict=True):
        pieces[group].append(update)
    below = [in_a_tree(piece, draw) if len(piece) < len(these) else folded(piece) for piece in pieces[1:]]
    for partial in below:
        total.fold_partial(Source(partial))
    for blob, weight in pieces[0]:
        total.fold(Source(blob), weight)
    return total.dump()


@given(st.lists(updates(), max_size=8), st.data())
def test_any_tree_of_combiners_gives_the_same_partial(these: list[Update], data: st.DataObject) -> None:
    assert in_a_tree(data.draw(st.permutations(these)), data) == folded(these)


def three_rounds(name: str) -> str:
    """A hash over models, partials, norms and states of three rounds with large tensors."""
    rng = np.random.default_rng(17)
    model: Weights = {
        "k": rng.standard_normal((300, 1001)).astype(np.float32),
        "v": (1 + rng.random(70)).astype(np.float32),
        "d": rng.standard_normal(333),
        "n": np.array([1], np.int32),
    }
    meta = {"roles": {"v": "statistic"}}
    spec = spec_of(model, meta)
    optimizer = server_optimizer(name)
    state, plan = None, initial_exponents(spec, [50, 60])
    digest = hashlib.sha256()
    for _ in range(3):
        total = Accumulator(spec, plan)
        for weight in (1, 77, 12345):
            change = rng.standard_normal(3)
            trained = {
                key: (array + (change[0] * array).astype(array.dtype)).astype(array.dtype)
                for key, array in model.items()
            }
            seen = total.fold(Source(encode(delta(trained, model))), weight)
            digest.update(repr(seen.norm).encode())
        digest.update(total.dump())
        model, state = next_model(model, spec, total.finish(), optimizer, optimizer.configure({}), state)
        plan = exponents(total.second_largest(), plan)
        digest.update(encode(model, meta) + encode(state) + repr(plan).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_switching_simd_off_does_not_change_a_byte(name: str) -> None:
    numpy_core = importlib.import_module("numpy._core._multiarray_umath")
    features = numpy_core.__cpu_features__
    enabled = [feature for feature in numpy_core.__cpu_dispatch__ if features[feature]]
    script = (
        "import runpy, sys\n"
        "from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__\n"
        "assert not any(__cpu_features__[feature] for feature in __cpu_dispatch__)\n"
        "print(runpy.run_path(sys.argv[1])['three_rounds'](sys.argv[2]))\n"
    )
    without = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__)), name],
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(enabled)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert without.stdout.strip() == three_rounds(name)
