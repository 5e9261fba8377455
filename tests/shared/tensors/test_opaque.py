"""Opaque tensors: the bytes of a round's only update become those of the model, whatever they are."""

from typing import Any

import numpy as np
import pytest

from fedmq.aggregation import Accumulator, initial_exponents, next_model, replay, server_optimizer
from fedmq.errors import InvalidUpdate
from fedmq.tensors import TensorRole, apply, check_roles_stated, delta, spec_of
from fedmq.tensors.flat import flat
from fedmq.tensors.opaque import why_one_client
from fedmq.tensors.tensorblob import DTYPES, Source, Weights, encode

ADAM = server_optimizer("fedadam")


def _model(dtype: str, rng: np.random.Generator) -> Weights:
    size = 300 * np.dtype(dtype).itemsize
    raw = rng.integers(0, 2 if dtype == "?" else 256, size, np.uint8)
    return {"w": np.ones(3, np.float32), "tree": np.frombuffer(raw.tobytes(), dtype).reshape(3, 100)}


@pytest.mark.parametrize("dtype", sorted(str(dtype.str) for dtype in DTYPES.values()))
@pytest.mark.parametrize("weight", [1, 60, 2**53 - 1])
def test_the_bytes_of_the_only_update_are_kept_exactly(dtype: str, weight: int) -> None:
    rng = np.random.default_rng(7)
    old, meta = _model(dtype, rng), {"roles": {"tree": "opaque"}}
    spec = spec_of(old, meta)
    new = {**_model(dtype, rng), "w": np.full(3, 1.5, np.float32)}
    update = Source(encode(delta(new, old, meta), meta))
    assert update.tensors["tree"].count == new["tree"].nbytes
    below, total = (Accumulator(spec, initial_exponents(spec, [weight])) for _ in range(2))
    below.fold(update, weight)
    total.fold_partial(Source(below.dump()))
    made, state = next_model(old, spec, total.finish(), ADAM, ADAM.configure({}), None)
    assert made["tree"].tobytes() == new["tree"].tobytes()
    assert (made["tree"].dtype, made["tree"].shape) == (new["tree"].dtype, (3, 100))
    assert not any("tree" in name for name in state)
    exponents = [exponent for _, exponent in sorted(below.exponents.items()) if _ != "tree"]
    again, _ = replay(old, meta, "mean", exponents, [(weight, update)], ADAM, ADAM.configure({}), None)
    assert encode(again) == encode(made)


def test_two_updates_of_an_opaque_tensor_are_not_averaged() -> None:
    old, meta = _model("u1", np.random.default_rng(1)), {"roles": {"tree": "opaque"}}
    spec = spec_of(old, meta)
    update = Source(encode(delta(old, old, meta), meta))
    total = Accumulator(spec, initial_exponents(spec, [1]))
    total.fold(update, 1)
    partial = Source(total.dump())
    with pytest.raises(InvalidUpdate, match="'tree' is opaque: one update is its bytes"):
        total.fold(update, 1)
    with pytest.raises(InvalidUpdate, match="'tree' is opaque"):
        total.fold_partial(partial)
    assert total.count == 1


def test_the_norm_and_the_flat_form_know_opaque_tensors() -> None:
    old, meta = {"w": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}, {"roles": {"b": "opaque"}}
    new = {"w": np.array([3, 4], np.float32), "b": np.full(2, np.nan, np.float32)}
    spec = spec_of(old, meta)
    update = Source(encode(delta(new, old, meta), meta))
    assert Accumulator(spec, initial_exponents(spec, [1])).verify(update, 1).norm == 5.0
    assert flat(old, meta) is None and flat(old, {}) is not None


@pytest.mark.parametrize(
    ("requested", "local", "words"),
    [(None, (), "'tree' is opaque"), (2, (), "with clients_requested = 1"), (1, (), "")],
)
def test_a_model_with_an_opaque_tensor_needs_one_client_in_each_round(
    requested: int | None, local: tuple[str, ...], words: str
) -> None:
    why = why_one_client(spec_of(_model("u1", np.random.default_rng(1)), {"roles": {"tree": "opaque"}}), requested)
    assert bool(why) == bool(words) and words in why


def test_a_model_without_an_opaque_tensor_may_have_any_number_of_clients() -> None:
    assert why_one_client(spec_of({"w": np.ones(2)}), None) == ""


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "u8"])
def test_integers_that_are_no_single_number_need_a_role(dtype: str) -> None:
    model: dict[str, Any] = {"ids": np.zeros((2, 3), dtype), "steps": np.zeros((), dtype), "one": np.zeros(1, dtype)}
    with pytest.raises(
        InvalidUpdate, match=r"'ids' holds integers, \w+ \[2, 3\], and has no role: state one"
    ) as caught:
        check_roles_stated(model, {})
    assert all(word in caught.value.reason for word in ("roles()", "constant", "counter", "opaque", "--role"))
    for role in ("constant", "counter", "opaque"):
        check_roles_stated(model, {"roles": {"ids": role}})
        assert spec_of(model, {"roles": {"ids": role}})["ids"].role is TensorRole(role)


def test_floats_bools_and_single_integers_need_no_role() -> None:
    check_roles_stated({"w": np.zeros(9), "mask": np.zeros(9, bool), "n": np.zeros((), int), "e": np.zeros(0, int)}, {})
    assert apply({"n": np.array(1)}, {"n": np.array(2.0)})["n"] == 3
