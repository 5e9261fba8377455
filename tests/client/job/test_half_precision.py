"""A trainer receives float32 in each round, whatever half precision its first model has: a committed model holds none."""

from typing import Any

import numpy as np
import pytest

from client.job.site import Site
from fedmq import tensors
from fedmq_client import Task, Weights

ml_dtypes = pytest.importorskip("ml_dtypes")
NOTE = "tensor 'b' (and 1 more) is {}, and models hold float32: train and validate receive float32"


@pytest.mark.parametrize("half", [ml_dtypes.bfloat16, np.float16])
def test_a_first_model_of_half_precision_is_float32_and_a_note_says_so(site: Site, half: Any) -> None:
    def init() -> dict[str, Any]:
        return {"w": np.full(3, -1.5, half), "b": np.ones(1, half), "n": np.ones(1, np.float64)}

    site.serve(train=lambda weights, task: (weights, 1, {}), init=init)
    result = site.run(kind="init", model=None)
    assert isinstance(result.update, bytes), result.reason
    weights, _ = tensors.decode(result.update)
    assert {name: str(value.dtype) for name, value in weights.items()} == {
        "w": "float32",
        "b": "float32",
        "n": "float64",
    }
    assert weights["w"].tolist() == [-1.5] * 3
    assert result.notes == (NOTE.format(np.dtype(half)),)


def test_a_trainer_may_return_bfloat16(site: Site) -> None:
    site.serve(train=lambda weights, task: ({"w": (weights["w"] + 0.5).astype(ml_dtypes.bfloat16)}, 1, {}))
    result = site.run(model=tensors.encode({"w": np.ones(2, np.float32)}))
    assert isinstance(result.update, bytes), result.reason
    assert tensors.decode(result.update)[0]["w"].tolist() == [0.5, 0.5]


def test_a_stored_seed_of_float16_is_float32_for_the_trainer_in_the_first_round_too(site: Site) -> None:
    seen: list[str] = []

    def train(weights: Weights, task: Task) -> Any:
        seen.append(str(weights["w"].dtype))
        return {name: value + value.dtype.type(2**-12) for name, value in weights.items()}, 1, {}

    site.serve(train=train)
    halves = {"w": np.ones(2, np.float16), "b": np.ones(1, np.float16)}
    result = site.run(model=tensors.encode(halves))
    assert isinstance(result.update, bytes), result.reason
    assert seen == ["float32"]
    assert tensors.decode(result.update)[0]["w"].tolist() == [2**-12] * 2, "float16 would round it to 0"
    assert result.notes == (NOTE.format("float16"),)
    assert not site.run(model=tensors.encode({"w": np.ones(2, np.float32)})).notes


def test_opaque_half_precision_stays_as_it_is(site: Site) -> None:
    site.serve(train=lambda weights, task: (weights, 1, {"dtype": str(weights["w"].dtype)}))
    result = site.run(model=tensors.encode({"w": np.ones(2, np.float16)}, {"roles": {"w": "opaque"}}))
    assert (result.metrics, result.notes) == ({"dtype": "float16"}, ())


def test_task_state_of_bfloat16_is_refused_with_what_can_be_kept(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        task.state = {"m": np.ones(2, task.config.get("as", ml_dtypes.bfloat16))}
        return weights, 1, {}

    site.serve(train=train)
    result = site.run()
    assert result.state is None
    assert result.notes == (
        "task.state['m'] is an array of bfloat16 and is not kept: use a numpy array of numbers, such as float32",
    )
    assert site.run(config={"as": "float32"}).state is not None
