"""TorchTrainer: stable names and roles, a clean state for each task, the same bytes for the same task."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Cancelled, Client, Task, TorchTrainer, Weights
from fedmq_client.frameworks.torch import roles_of, weights_of

RNG = np.random.default_rng(3)
X = RNG.normal(size=(70, 4))
Y = (X.sum(axis=1) > 0).astype(np.int32)
NAMES = [
    "0000/0.weight", "0001/0.bias", "0002/1.weight", "0003/1.bias", "0004/1.running_mean", "0005/1.running_var",
    "0006/1.num_batches_tracked", "0007/3.weight", "0008/3.bias",
]  # fmt: skip


class Small(TorchTrainer):
    """Dropout, batch-norm, an optimizer with state, and a last batch that is not full."""

    config_keys = ("mine",)
    loads = 0

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    def data(self, client: Client) -> Any:
        type(self).loads += 1
        return X, Y

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        x, y = batch
        return {"accuracy": (model(x).argmax(dim=1) == y).float().mean()}


class Line(TorchTrainer):
    """One weight, and nothing random."""

    def model(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def data(self, client: Client) -> Any:
        return np.ones((2, 1)), np.full((2, 1), 3.0)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.mse_loss(model(x), y)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)


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


def test_the_random_seed_decides_the_first_weights(trainer: Small, first: Weights) -> None:
    assert tensors.encode(trainer.init()) == tensors.encode(first)
    other = Small(Client("c", random_seed=5)).init()
    assert tensors.encode(other) != tensors.encode(first)


def test_a_task_gives_the_same_bytes_whatever_was_done_before(trainer: Small, first: Weights) -> None:
    once = _train(trainer, first)
    _train(trainer, first, seed=9, epochs=2)
    trainer.validate(first, _task())
    torch.manual_seed(123)
    assert _train(trainer, first) == once
    assert _train(Small(Client("another", device="cpu")), first) == once
    assert _train(trainer, first, seed=2) != once


def test_training_lowers_the_loss_and_data_is_loaded_once(trainer: Small, first: Weights) -> None:
    before = Small.loads
    answer = trainer.train({name: value.copy() for name, value in first.items()}, _task(epochs=30, learning_rate=0.01))
    assert answer is not None
    weights, examples, metrics = answer
    assert (examples, set(metrics)) == (70, {"loss"})
    scored, unscored = trainer.validate(weights, _task()), trainer.validate(first, _task())
    assert scored is not None and unscored is not None
    assert scored[1]["loss"] < unscored[1]["loss"] / 2
    assert scored[1]["accuracy"] > 0.9
    assert Small.loads == before + 1
    assert weights["0006/1.num_batches_tracked"] == 30 * 3


def test_validation_is_the_mean_over_examples_and_not_over_batches() -> None:
    class Long(Line):
        def data(self, client: Client) -> Any:
            return np.ones((300, 1)), np.r_[np.zeros((256, 1)), np.ones((44, 1))]

    answer = Long(Client("c")).validate({"0000/weight": np.zeros((1, 1), np.float32)}, _task())
    assert answer is not None
    assert answer[0] == 300
    assert answer[1]["loss"] == pytest.approx(44 / 300)


def test_a_step_is_the_gradients_and_the_proximal_term_is_mu_times_the_distance() -> None:
    # One example a step at w: the gradient is 2 (w - 3) + mu (w - w0), with w0 = 1.
    for mu in (0.0, 0.5):
        w = 1.0
        for _ in range(2):
            w -= 0.1 * (2 * (w - 3) + mu * (w - 1))
        task = _task(batch_size=1, proximal_mu=mu)
        answer = Line(Client("c")).train({"0000/weight": np.ones((1, 1), np.float32)}, task)
        assert answer is not None
        assert answer[0]["0000/weight"].item() == pytest.approx(w)


def test_the_configured_learning_rate_is_the_optimizers() -> None:
    answer = Line(Client("c")).train({"0000/weight": np.ones((1, 1), np.float32)}, _task(learning_rate=0.25))
    assert answer is not None
    assert answer[0]["0000/weight"].item() == pytest.approx(1 + 0.25 * 4)


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


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"epoch": 2}, "unknown configuration 'epoch': did you mean epochs\\? known are epochs, batch_size"),
        ({"epochs": 0}, "epochs is 0: give an int of 1 or more"),
        ({"proximal_mu": -1}, "proximal_mu is -1: give a number of 0 or more"),
    ],
)
def test_a_bad_configuration_is_refused(trainer: Small, first: Weights, config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        trainer.train(first, _task(**config))
    assert trainer.train(first, _task(mine="x")) is not None


def test_weights_of_another_model_are_refused(trainer: Small, first: Weights) -> None:
    with pytest.raises(ConfigError, match=r"only one of them has 0008/3.bias"):
        trainer.validate({name: value for name, value in first.items() if name != "0008/3.bias"}, _task())
    with pytest.raises(ConfigError, match=r"0008/3.bias of shape \(3,\), and model\(\) makes \(2,\)"):
        trainer.validate({**first, "0008/3.bias": np.zeros(3, np.float32)}, _task())


def test_a_cancelled_task_ends_within_a_batch_and_progress_is_told(trainer: Small, first: Weights) -> None:
    told: list[tuple[float, dict[str, Any]]] = []
    task = Task(
        client=Client("c"),
        config={"batch_size": 10},
        progress=lambda *report: told.append(report),
        is_cancelled=lambda: bool(told),
    )
    with pytest.raises(Cancelled):
        trainer.train(first, task)
    assert told[0][0] == pytest.approx(1 / 7)
    assert set(told[0][1]) == {"loss"}


def test_a_client_without_data_abstains(first: Weights) -> None:
    class Empty(Small):
        def data(self, client: Client) -> Any:
            return X[:0], Y[:0]

    assert Empty(Client("c")).train(first, _task()) is None
    assert Empty(Client("c")).validate(first, _task()) is None


def test_what_a_subclass_forgets_is_said(first: Weights) -> None:
    class Uneven(Small):
        def data(self, client: Client) -> Any:
            return X, Y[:-1]

    with pytest.raises(ConfigError, match="arrays of 69 and 70 examples"):
        Uneven(Client("c")).train(first, _task())
    bare = TorchTrainer(Client("c"))
    for method in (bare.init, lambda: bare.data(Client("c")), lambda: bare.loss(nn.Linear(1, 1), ())):
        with pytest.raises(NotImplementedError, match="write"):
            method()
