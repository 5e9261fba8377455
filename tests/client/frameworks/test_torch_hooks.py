"""TorchTrainer's hooks, its frozen modules, and modules in other precisions."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from client.frameworks.examples import X, Y
from client.frameworks.small_torch import Line, Small
from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Client, Task, Weights

CLIENT = Client("c", device="cpu", random_seed=4)
ONE = {"0000/weight": np.ones((1, 1), np.float32)}


def _train(trainer: Any, weights: Weights, frozen: Iterable[str] = (), **config: Any) -> Any:
    task = Task(client=CLIENT, seed=1, config=config, frozen=set(frozen), round=3, rounds=9)
    return trainer.train({name: value.copy() for name, value in weights.items()}, task)


# -- a DataLoader as data -------------------------------------------------------------------------------------------

UNUSED = (
    "the DataLoader's batch_size 5 is not used but 32: --set train.batch_size=5, or return the DataLoader from loader()"
)


def _notes(size: int, drop_last: bool = False, as_loader: bool = False, **config: Any) -> list[str]:
    return _notes_of(
        DataLoader(TensorDataset(torch.ones(20, 1), torch.ones(20, 1)), size, drop_last=drop_last), as_loader, **config
    )


def _notes_of(loader: DataLoader[Any], as_loader: bool = False, **config: Any) -> list[str]:
    class Loading(Line):
        def data(self, client: Client) -> Any:
            return loader

        def loader(self, dataset: Any, task: Task) -> Any:
            return loader if as_loader else None

    notes: list[str] = []
    task = Task(client=CLIENT, seed=1, config={"epochs": 2, **config}, note=notes.append)
    Loading(CLIENT).train({name: value.copy() for name, value in ONE.items()}, task)
    return notes


def test_batches_of_a_data_loader_that_are_not_used_are_noted_once_with_what_uses_them() -> None:
    [note] = _notes(5)
    assert note.startswith(UNUSED)
    assert _notes(5, batch_size=5) == [], "the first advice"
    assert _notes(5, drop_last=True, as_loader=True) == [], "the second advice"
    [note] = _notes(32, drop_last=True)
    assert note.startswith(
        "the DataLoader's drop_last is not used, as each example is trained on: return the DataLoader"
    )
    assert _notes(32) == []
    assert _notes(5, drop_last=True, batch_size=5) == [], "20 examples are four full batches"


def test_the_batch_size_of_a_batch_sampler_is_noted_and_the_advice_works() -> None:
    dataset = TensorDataset(torch.ones(20, 1), torch.ones(20, 1))
    loader = DataLoader(dataset, batch_sampler=BatchSampler(SequentialSampler(dataset), 5, drop_last=False))
    [note] = _notes_of(loader)
    assert note.startswith(UNUSED)
    assert _notes_of(loader, batch_size=5) == []


# -- optimizer, scheduler, loader -----------------------------------------------------------------------------------


class Rounds(Line):
    """Its learning rate falls from round to round, and within a task."""

    def optimizer(self, parameters: Iterable[nn.Parameter], task: Task) -> torch.optim.Optimizer:  # type: ignore[override]
        return torch.optim.SGD(parameters, lr=0.3 / task.round)


class Steps(Line):
    rates: ClassVar[list[float]] = []

    def scheduler(self, optimizer: torch.optim.Optimizer, task: Task) -> Any:
        self.rates.clear()
        steps = self.steps(task)

        def factor(step: int) -> float:
            self.rates.append(1 - step / steps)
            return 1 - step / steps

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def test_an_optimizer_may_depend_on_the_round_and_the_older_signature_works() -> None:
    rounds, plain = _train(Rounds(CLIENT), ONE), _train(Line(CLIENT), ONE)
    assert tensors.encode(rounds[0]) == tensors.encode(plain[0])
    faster = _train(Rounds(CLIENT), ONE, learning_rate=0.2)
    assert tensors.encode(faster[0]) == tensors.encode(_train(Line(CLIENT), ONE, learning_rate=0.2)[0])


def test_a_scheduler_is_stepped_after_each_batch_from_the_sessions_learning_rate() -> None:
    found, _, _ = _train(Steps(CLIENT), ONE, epochs=2, batch_size=1, learning_rate=0.2)
    assert Steps.rates == [1, 0.75, 0.5, 0.25, 0]
    w = 1.0
    for factor in (1, 0.75, 0.5, 0.25):
        w -= 0.2 * factor * 2 * (w - 3)
    assert found["0000/weight"].item() == pytest.approx(w)


class Loaded(Small):
    """Batches of a DataLoader with workers, of full batches only."""

    drop_last = True
    workers = 0

    def loader(self, dataset: Any, task: Task) -> Any:
        return DataLoader(
            dataset,
            task.config.get("batch_size", 32),
            shuffle=True,
            drop_last=self.drop_last,
            num_workers=self.workers,
            multiprocessing_context="fork" if self.workers else None,
        )


def test_a_loader_gives_the_batches_and_the_numbers_are_of_what_it_gave() -> None:
    trainer = Loaded(CLIENT)
    weights = trainer.init()
    once, again = _train(trainer, weights, epochs=2), _train(Loaded(CLIENT), weights, epochs=2)
    assert tensors.encode(once[0]) == tensors.encode(again[0])
    # Two full batches of 32 out of 70 examples.
    assert (once[1], once[0]["0006/1.num_batches_tracked"]) == (64, 4)
    assert trainer.validate(weights, Task(client=CLIENT))[0] == 70  # type: ignore[index]


def test_a_loader_may_have_worker_processes() -> None:
    class Workers(Loaded):
        drop_last = False
        workers = 2

    assert _train(Workers(CLIENT), Workers(CLIENT).init())[1] == 70


def test_the_mean_loss_is_over_the_batches_that_were_used() -> None:
    class Far(Line):
        """The loss of each example is 9, and the last one is left out."""

        def data(self, client: Client) -> Any:
            return np.zeros((3, 1)), np.full((3, 1), 3.0)

        def loader(self, dataset: Any, task: Task) -> Any:
            return DataLoader(dataset, 2, drop_last=True)

    answer = _train(Far(CLIENT), ONE)
    assert (answer[1], answer[2]) == (2, {"loss": pytest.approx(9.0)})


def test_a_loader_without_a_batch_is_no_examples() -> None:
    class Few(Loaded):
        examples = (X[:5], Y[:5])

    weights = Few(CLIENT).init()
    found, examples, _ = _train(Few(CLIENT), weights)
    assert examples == 0
    assert tensors.encode(found) == tensors.encode(weights)


def test_a_loader_of_one_epoch_is_refused_for_two() -> None:
    class Once(Small):
        def loader(self, dataset: Any, task: Task) -> Any:
            return iter(DataLoader(dataset, 10))

    weights = Once(CLIENT).init()
    assert _train(Once(CLIENT), weights)[1] == 70
    with pytest.raises(ConfigError, match="lasts one epoch: return a DataLoader or a list"):
        _train(Once(CLIENT), weights, epochs=2)


def test_batches_without_a_tensor_are_refused() -> None:
    class Empty(Small):
        def loader(self, dataset: Any, task: Task) -> Any:
            return [("a", 1)]

    with pytest.raises(ConfigError, match=r"loader\(\) gave a tuple of 2 as a batch: give tensors"):
        _train(Empty(CLIENT), Empty(CLIENT).init())


# -- frozen tensors -------------------------------------------------------------------------------------------------


class Backbone(Small):
    """A backbone with batch norm and dropout, and a head with a dropout of its own."""

    modes: ClassVar[dict[str, bool]] = {}

    def model(self) -> nn.Module:
        body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        return nn.ModuleDict(
            {"body": body, "drop": nn.Dropout(0.5), "norm": nn.BatchNorm1d(8), "head": nn.Linear(8, 2)}
        )

    def forward(self, model: nn.Module, x: Tensor) -> Tensor:
        for name in ("body", "drop", "norm", "head"):
            x = model.get_submodule(name)(x)
        return x

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if torch.is_grad_enabled():
            self.modes.update({name: module.training for name, module in model.named_modules() if name})
        x, y = batch
        return functional.cross_entropy(self.forward(model, x), y)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        return {}


def test_modules_whose_tensors_are_all_frozen_are_in_eval_mode() -> None:
    trainer = Backbone(CLIENT)
    weights = trainer.init()
    frozen = {name for name in weights if "/body." in name}
    found, _, _ = _train(trainer, weights, frozen, epochs=2)
    for name, value in found.items():
        assert (value.tobytes() == weights[name].tobytes()) == (name in frozen), name
    assert {name: mode for name, mode in trainer.modes.items() if "." not in name} == {
        "body": False,
        "drop": True,
        "norm": True,
        "head": True,
    }
    assert not any(mode for name, mode in trainer.modes.items() if name.startswith("body."))
    # What is not frozen is trained as if the frozen tensors were constant.
    _train(trainer, weights)
    assert all(trainer.modes.values())


def test_frozen_statistics_are_what_batch_norm_uses() -> None:
    trainer = Backbone(CLIENT)
    weights = trainer.init()
    frozen = {name for name in weights if "norm.running" in name or "norm.num" in name}
    found, _, _ = _train(trainer, weights, frozen)
    assert not trainer.modes["norm"]
    assert all((found[name] == weights[name]).all() == (name in frozen) for name in found)


def test_a_tensor_with_two_names_is_frozen_by_both_or_none() -> None:
    class Tied(Small):
        def model(self) -> nn.Module:
            model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
            model[1].weight = model[0].weight
            return model

    weights = Tied(CLIENT).init()
    with pytest.raises(ConfigError, match=r"0.weight and 1.weight are one tensor: let the policy freeze all"):
        _train(Tied(CLIENT), weights, {"0000/0.weight"})
    found, _, _ = _train(Tied(CLIENT), weights, {"0000/0.weight", "0002/1.weight"})
    assert (found["0002/1.weight"] == weights["0002/1.weight"]).all()
    assert (found["0004/2.weight"] != weights["0004/2.weight"]).any()


def test_a_model_without_a_trained_parameter_is_refused() -> None:
    weights = Small(CLIENT).init()
    with pytest.raises(ConfigError, match="no parameter is left to train"):
        _train(Small(CLIENT), weights, {name for name in weights if "running" not in name})


# -- batch norm and a single example, other precisions --------------------------------------------------------------


def test_a_single_example_uses_the_running_statistics_and_does_not_change_them() -> None:
    class Single(Small):
        examples = (X[:1], Y[:1])

    weights = Small(CLIENT).init()
    found, _, _ = _train(Single(CLIENT), weights, epochs=3)
    assert found["0006/1.num_batches_tracked"] == 0
    assert (found["0005/1.running_var"] == weights["0005/1.running_var"]).all()
    # One example more makes it a batch.
    pair = type("Pair", (Small,), {"examples": (X[:2], Y[:2])})(CLIENT)
    assert _train(pair, weights)[0]["0006/1.num_batches_tracked"] == 1


def test_a_batch_norm_that_the_user_puts_into_eval_mode_stays_there() -> None:
    class Evaluated(Small):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            model.get_submodule("1").eval()
            return super().loss(model, batch)

    assert _train(Evaluated(CLIENT), Small(CLIENT).init())[0]["0006/1.num_batches_tracked"] == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_module_in_another_precision_is_trained_and_its_frozen_tensors_stay(dtype: torch.dtype) -> None:
    class Precise(Small):
        def model(self) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(dtype)

        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            x, y = batch
            return functional.cross_entropy(model(x.to(dtype)).float(), y)

        def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
            return {}

    trainer = Precise(CLIENT)
    weights = trainer.init()
    # A mean over clients is seldom a number of half precision.
    received = {name: (value * (1 + 1e-3)).astype(value.dtype) for name, value in weights.items()}
    frozen = {"0000/0.weight", "0001/0.bias"}
    found, _, metrics = _train(trainer, received, frozen, epochs=3, proximal_mu=0.1)
    assert all(np.isfinite(value).all() for value in found.values())
    assert {name for name in found if found[name].tobytes() == received[name].tobytes()} == frozen
    before = trainer.validate(received, Task(client=CLIENT))[1]["loss"]  # type: ignore[index]
    after = trainer.validate(found, Task(client=CLIENT))[1]["loss"]  # type: ignore[index]
    assert after < before and np.isfinite(metrics["loss"])
