"""TorchTrainer: names and roles of the state dict, and data and modules as PyTorch has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import fedmq_client.torch
from client.frameworks.examples import X, Y
from client.frameworks.small_torch import Line, Small
from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq.model_files import formats
from fedmq_client import Client, Task, TorchTrainer, Weights
from fedmq_client.frameworks.torch import roles_of, weights_of

NAMES = ["0000/0.weight", "0001/0.bias", "0002/1.weight", "0003/1.bias", "0004/1.running_mean", "0005/1.running_var"]
NAMES += ["0006/1.num_batches_tracked", "0007/3.weight", "0008/3.bias"]


@pytest.fixture
def trainer() -> Small:
    return Small(Client("c", device="cpu", random_seed=4))


@pytest.fixture
def first(trainer: Small) -> Weights:
    return trainer.init()


def _task(seed: int = 1, **config: Any) -> Task:
    return Task(client=Client("c"), seed=seed, config=config)


def _train(trainer: TorchTrainer, weights: Weights, seed: int = 1, **config: Any) -> bytes:
    answer = trainer.train({name: value.copy() for name, value in weights.items()}, _task(seed, **config))
    assert answer is not None
    return tensors.encode(answer[0])


def test_names_are_positions_in_the_state_dict_and_roles_follow_its_kinds(trainer: Small, first: Weights) -> None:
    assert list(first) == NAMES
    assert {name: role for name, role in trainer.roles().items() if role != "trainable"} == {
        "0004/1.running_mean": "statistic",
        "0005/1.running_var": "statistic",
        "0006/1.num_batches_tracked": "counter",
    }
    tensors.spec_of(first, {"roles": trainer.roles()})


def test_validation_is_the_mean_over_examples_and_not_over_batches() -> None:
    class Long(Line):
        def data(self, client: Client) -> Any:
            return np.ones((300, 1)), np.r_[np.zeros((256, 1)), np.ones((44, 1))]

    answer = Long(Client("c")).validate({"0000/weight": np.zeros((1, 1), np.float32)}, _task())
    assert answer is not None
    assert answer[0] == 300
    assert answer[1]["loss"] == pytest.approx(44 / 300)


def test_a_seed_that_is_a_state_dict_or_a_list_keeps_its_names(trainer: Small, first: Weights) -> None:
    same = tensors.decode(_train(trainer, first))[0]
    for names in ([name[5:] for name in NAMES], [str(number) for number in range(9)]):
        renamed = {name: first[own] for name, own in reversed(list(zip(names, NAMES, strict=True)))}
        answer = trainer.train({name: value.copy() for name, value in renamed.items()}, _task())
        assert answer is not None
        assert set(answer[0]) == set(names)
        for name, own in zip(names, NAMES, strict=True):
            np.testing.assert_array_equal(answer[0][name], same[own])


def test_a_dataset_is_batched_as_its_items_say() -> None:
    class Items(Dataset[dict[str, Any]]):
        def __len__(self) -> int:
            return 70

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"x": X[index].astype(np.float32), "y": int(Y[index])}

    class FromItems(Small):
        def data(self, client: Client) -> Any:
            return Items()

        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return functional.cross_entropy(model(batch["x"]), batch["y"])

        def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
            return {}

    client = Client("c", device="cpu", random_seed=4)
    weights = Small(client).init()
    assert _train(FromItems(client), weights) == _train(Small(client), weights)
    answer = FromItems(client).validate(weights, _task())
    assert answer is not None and answer[0] == 70


def test_half_precision_travels_as_float32_and_frozen_and_tied_tensors_have_their_roles() -> None:
    class Odd(nn.Module):
        flag: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 2).bfloat16()
            self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
            self.tied = self.body.weight
            self.register_buffer("flag", torch.ones(1, dtype=torch.bool))

    found = weights_of(Odd())
    assert {name: value.dtype.name for name, value in found.items()} == {
        "0000/frozen": "float32",
        "0001/tied": "float32",
        "0002/flag": "bool",
        "0003/body.weight": "float32",
        "0004/body.bias": "float32",
    }
    assert list(roles_of(Odd()).values()) == ["statistic", "trainable", "constant", "trainable", "trainable"]


def test_batches_are_counted_over_all_epochs(trainer: Small, first: Weights) -> None:
    weights = tensors.decode(_train(trainer, first, epochs=30))[0]
    assert weights["0006/1.num_batches_tracked"] == 30 * 3
    assert not first["0006/1.num_batches_tracked"]


def test_a_loss_that_a_subclass_forgets_is_named() -> None:
    with pytest.raises(NotImplementedError, match="write"):
        TorchTrainer(Client("c")).loss(nn.Linear(1, 1), ())


class Tables(nn.Module):
    """Integers and flags that training does not change, beside a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, dtype=torch.bfloat16)
        self.register_buffer("position_ids", torch.arange(8).view(1, 8))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]))


def test_integers_of_more_than_one_number_are_constant_and_single_ones_counters() -> None:
    assert fedmq_client.torch.roles(Tables()) == {
        "0000/position_ids": "constant",
        "0001/steps": "counter",
        "0002/mask": "constant",
        "0003/layer.weight": "trainable",
        "0004/layer.bias": "trainable",
    }
    weights = fedmq_client.torch.get(Tables())
    tensors.check_roles_stated(weights, {"roles": fedmq_client.torch.roles(Tables())})


def test_a_state_dict_file_has_the_roles_of_integers_that_its_module_has(tmp_path: Path) -> None:
    torch.save(Tables().state_dict(), tmp_path / "seed.pt")
    found = formats.read(tmp_path / "seed.pt")
    assert found.meta["roles"] == {"0000/position_ids": "constant"}
    tensors.check_roles_stated(found.weights, found.meta)


def test_weights_that_were_got_from_a_module_can_be_put_into_another(tmp_path: Path) -> None:
    one, other = Tables(), Tables()
    weights, _ = tensors.decode(tensors.encode(fedmq_client.torch.get(one)))  # read-only, as from a blob
    fedmq_client.torch.put(other, weights)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    fedmq_client.torch.put(other, {name.partition("/")[2]: value for name, value in weights.items()})
    with pytest.raises(ConfigError, match=r"it lacks .* and it has "):
        fedmq_client.torch.put(nn.Linear(1, 1), weights)
    with pytest.raises(ConfigError, match=r"of shape \(1, 2\), and model\(\) makes \(1, 3\)"):
        fedmq_client.torch.put(nn.Linear(3, 1), {"weight": weights["0003/layer.weight"], "bias": np.ones(1, "f4")})
