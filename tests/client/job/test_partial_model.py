"""Models of which only a part travels, and updates that are clipped."""

import numpy as np
import pytest

from fedmq.errors import ConfigError
from fedmq.tensors import splitting
from fedmq_client.job.partial_model import Whole, clipped, kept_and_state
from fedmq_schemas.policy import Tensors

WEIGHTS = {"body": np.ones(2), "head": np.full(2, 2.0), "backbone": np.full(2, 3.0), "steps": np.array([4])}
META = {"roles": {"body": "trainable", "head": "statistic"}, "network": "n"}


def test_a_model_in_two_is_the_same_again_when_joined() -> None:
    parts = splitting.split(WEIGHTS, META, Tensors(local=("head",), frozen=("back*",)))
    shared, shared_meta, base, base_meta = parts
    assert (set(shared), set(base), base_meta["local"]) == ({"body", "steps"}, {"head", "backbone"}, ["head"])
    assert (shared_meta["roles"], base_meta["roles"]) == ({"body": "trainable"}, {"head": "statistic"})
    weights, meta = splitting.join(*parts)
    assert {name: value.tobytes() for name, value in weights.items()} == {
        name: value.tobytes() for name, value in WEIGHTS.items()
    }
    assert meta["roles"] == META["roles"]
    assert meta["network"] == "n"


def test_what_is_neither_shared_nor_local_is_frozen_where_sharing_is_named() -> None:
    shared, _, base, base_meta = splitting.split(WEIGHTS, {}, Tensors(share=("body",), local=("head",)))
    assert set(shared) == {"body"}
    assert set(base) - set(base_meta["local"]) == {"backbone", "steps"}


def test_a_tensor_in_two_lists_is_refused() -> None:
    with pytest.raises(ConfigError, match="'head' is both local and shared"):
        splitting.split(WEIGHTS, {}, Tensors(share=("head",), local=("h*",)))


def _whole() -> Whole:
    shared, meta, base, base_meta = splitting.split(WEIGHTS, {}, Tensors(local=("head",), frozen=("backbone",)))
    return Whole(shared, meta, base, base_meta, {"head": np.full(2, 20.0)})


def test_a_trainer_is_given_what_it_has_made_of_local_tensors() -> None:
    assert _whole().weights["head"].tolist() == [20.0, 20.0]
    assert set(_whole().weights) == set(WEIGHTS)


def test_local_tensors_are_kept_beside_the_users_state_and_apart_from_it() -> None:
    whole = _whole()
    new = {**whole.weights, "head": np.zeros(2)}
    assert set(whole.shared_of(new)) == {"body", "steps"}
    local, state = kept_and_state({**whole.local_of(new), "mine": np.ones(1)})
    assert (set(local), set(state)) == ({"head"}, {"mine"})
    assert local["head"].tolist() == [0.0, 0.0]


def test_a_frozen_tensor_with_nan_that_is_returned_as_it_was_has_not_changed() -> None:
    base = {"backbone": np.array([1.0, np.nan])}
    assert Whole({}, base=base).changed({"backbone": base["backbone"].copy()}) == []
    assert Whole({}, base=base).changed({"backbone": np.array([2.0, np.nan])}) == ["backbone"]


def test_a_changed_frozen_tensor_is_named_and_not_sent() -> None:
    new = {name: value + 1 for name, value in _whole().weights.items()}
    assert _whole().frozen == {"backbone"}
    assert _whole().changed(new) == ["backbone"]
    assert _whole().changed({**new, "backbone": WEIGHTS["backbone"]}) == []
    assert set(_whole().shared_of(new)) == {"body", "steps"}


def test_clipping_scales_trainable_tensors_together_and_nothing_else() -> None:
    model = {"a": np.zeros(1), "b": np.zeros(1), "mean": np.zeros(1)}
    delta = {"a": np.array([3.0]), "b": np.array([4.0]), "mean": np.array([100.0])}
    result = clipped(delta, model, {"roles": {"mean": "statistic"}}, 1.0)
    assert (result["a"][0], result["b"][0], result["mean"][0]) == (pytest.approx(0.6), pytest.approx(0.8), 100.0)
    assert clipped(delta, model, {"roles": {"mean": "statistic"}}, 5.0) is delta
    assert clipped(delta, model, {}, None) is delta
