"""TorchTrainer with modules, optimizers and losses that need more than a plain step."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from client.frameworks.small_torch import Line
from fedmq import tensors
from fedmq.aggregation import l2_norm
from fedmq.errors import ConfigError, InvalidUpdate
from fedmq_client import Client, Task, TorchTrainer, Weights

CLIENT = Client("c", device="cpu", random_seed=4)
INPUTS = np.random.default_rng(0).normal(size=(33, 3))


class Sum(TorchTrainer):
    """Learns the sum of three numbers. 33 examples: the last of two batches is a single one."""

    net: ClassVar[Callable[[], nn.Module]]

    def model(self) -> nn.Module:
        return type(self).net()

    def data(self, client: Client) -> Any:
        return INPUTS, INPUTS.sum(axis=1, keepdims=True)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.mse_loss(model(x), y)


def _of(net: Callable[[], nn.Module], **hooks: Any) -> Sum:
    own: type[Sum] = type("Own", (Sum,), {"net": staticmethod(net), **hooks})
    return own(CLIENT)


def _train(trainer: TorchTrainer, weights: Weights, **config: Any) -> tuple[Weights, float]:
    answer = trainer.train({name: value.copy() for name, value in weights.items()}, Task(client=CLIENT, config=config))
    assert answer is not None
    return answer[0], answer[2]["loss"]


def _loss(trainer: TorchTrainer, weights: Weights) -> float:
    answer = trainer.validate(weights, Task(client=CLIENT))
    assert answer is not None
    return answer[1]["loss"]


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_a_module_that_can_not_be_copied_is_made_anew_for_each_task() -> None:
    trainer = _of(lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 1))))
    weights = trainer.init()
    trained, _ = _train(trainer, weights, epochs=20, learning_rate=0.1)
    assert _loss(trainer, trained) < _loss(trainer, weights) / 4
    again, _ = _train(trainer, weights, epochs=20, learning_rate=0.1)
    assert all(np.array_equal(trained[name], again[name]) for name in trained)


class Locked(nn.Linear):
    """Holds a lock, of which Python makes no copy."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.lock = threading.Lock()


def test_a_module_with_a_lock_is_made_anew_for_each_task() -> None:
    trainer = _of(Locked)
    trained, _ = _train(trainer, trainer.init(), epochs=20, learning_rate=0.1)
    assert _loss(trainer, trained) < _loss(trainer, trainer.init()) / 4


def test_lazy_modules_are_refused_and_the_advised_call_gives_them_their_shapes() -> None:
    with pytest.raises(ConfigError, match=r"call it once in model\(\), as in net\(torch.zeros\(2, 3\)\)"):
        _of(lambda: nn.LazyLinear(1)).init()

    def called() -> nn.Module:
        net = nn.LazyLinear(1)
        net(torch.zeros(2, 3))
        return net

    trainer = _of(called)
    assert _train(trainer, trainer.init())[0]["0000/weight"].shape == (1, 3)


def test_floats_are_as_wide_as_a_float64_model() -> None:
    trainer = _of(lambda: nn.Linear(3, 1).double())
    weights = trainer.init()
    errors = INPUTS @ weights["0000/weight"].T + weights["0001/bias"] - INPUTS.sum(axis=1, keepdims=True)
    assert _loss(trainer, weights) == pytest.approx(float(np.mean(errors**2)), rel=1e-12)
    assert _train(trainer, weights)[0]["0000/weight"].dtype == np.float64


class Scaled(nn.Linear):
    """A float32 layer with one float64 parameter."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale.float()


def test_floats_are_float32_for_a_model_with_a_few_wide_parameters() -> None:
    trained, _ = _train(_of(Scaled), _of(Scaled).init())
    assert {array.dtype for array in trained.values()} == {np.dtype(np.float32), np.dtype(np.float64)}


@pytest.mark.parametrize("width", [1, 2], ids=["one value a channel", "two"])
def test_batch_norm_without_statistics_normalizes_a_single_value_to_zero(width: int) -> None:
    trainer = _of(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1)))
    weights = trainer.init()
    assert len(_train(trainer, weights)[0]) == 6  # 33 examples in batches of 32

    class Few(type(trainer)):  # type: ignore[misc]
        def data(self, client: Client) -> Any:
            return INPUTS[:width], INPUTS[:width].sum(axis=1, keepdims=True)

    hidden = INPUTS[:width] @ weights["0000/0.weight"].T + weights["0001/0.bias"]
    normal = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5)
    found = normal @ weights["0004/2.weight"].T + weights["0005/2.bias"]
    expected = float(np.mean((found - INPUTS[:width].sum(axis=1, keepdims=True)) ** 2))
    assert _loss(Few(CLIENT), weights) == pytest.approx(expected, rel=1e-4)


class Named(nn.Module):
    """Gives batch norm its input by name."""

    def __init__(self, statistics: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)
        self.norm = nn.BatchNorm1d(4, track_running_stats=statistics)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(input=self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("statistics", [True, False])
def test_batch_norm_with_a_named_input_accepts_a_single_example(statistics: bool) -> None:
    trainer = _of(lambda: Named(statistics))
    assert np.isfinite(_train(trainer, trainer.init())[1])


def test_an_optimizer_that_evaluates_the_loss_several_times_gets_a_closure() -> None:
    class Exact(Line):
        def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.LBFGS(parameters)

    trainer = Exact(CLIENT)
    weights = {"0000/weight": np.zeros((1, 1), np.float32)}
    before = _loss(trainer, weights)
    trained, loss = _train(trainer, weights)
    assert loss == pytest.approx(before, rel=1e-6), "the loss of the only batch before its step"
    assert _loss(trainer, trained) < before / 1e6


def test_a_scheduler_that_waits_for_validations_is_refused_and_the_advised_hook_works() -> None:
    def plateau(self: Any, optimizer: torch.optim.Optimizer, task: Task) -> Any:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)

    trainer = _of(lambda: nn.Linear(3, 1), scheduler=plateau)
    with pytest.raises(ConfigError, match=r"ReduceLROnPlateau.*let optimizer\(parameters, task\) choose the rate"):
        _train(trainer, trainer.init())

    def falling(self: Any, parameters: Iterable[nn.Parameter], task: Task) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1 / task.round)

    trainer = _of(lambda: nn.Linear(3, 1), optimizer=falling)
    assert _loss(trainer, _train(trainer, trainer.init())[0]) < _loss(trainer, trainer.init())


class Counting(nn.Linear):
    """Counts its calls in training, in a buffer of several integers."""

    def __init__(self, persistent: bool = True) -> None:
        super().__init__(3, 1)
        self.used: Tensor
        self.register_buffer("used", torch.zeros(2, dtype=torch.long), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.used += 1
        return super().forward(x)


def test_a_buffer_that_training_changes_is_refused_as_constant_and_what_is_advised_works() -> None:
    def verified(trainer: Sum) -> float:
        weights, meta = trainer.init(), {"roles": trainer.roles()}
        update = tensors.delta(_train(trainer, weights)[0], weights, meta)
        return l2_norm(tensors.Source(tensors.encode(update)), tensors.spec_of(weights, meta))

    with pytest.raises(
        InvalidUpdate, match=r"constant.*another role in the trainer's roles\(\), such as counter.*persistent=F"
    ):
        verified(_of(Counting))
    assert verified(_of(Counting, roles=lambda self: {**Sum.roles(self), "0002/used": "counter"})) > 0
    assert verified(_of(lambda: Counting(persistent=False))) > 0


def test_a_loss_or_metric_of_more_than_one_value_is_refused_by_its_hook() -> None:
    def each(self: Any, model: nn.Module, batch: Any) -> Tensor:
        return functional.mse_loss(model(batch[0]), batch[1], reduction="none")

    trainer = _of(lambda: nn.Linear(3, 1), loss=each)
    with pytest.raises(ConfigError, match=r"loss\(\) returned a tensor of shape \(32, 1\): return its mean"):
        _train(trainer, trainer.init())

    def errors(self: Any, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        return {"error": (model(batch[0]) - batch[1]).abs()}

    trainer = _of(lambda: nn.Linear(3, 1), metrics=errors)
    with pytest.raises(ConfigError, match=r"metrics\(\) returned a tensor of shape \(33, 1\): return its mean"):
        _loss(trainer, trainer.init())

    trainer = _of(lambda: nn.Linear(3, 1), metrics=lambda *_: {"loss": torch.ones(2)})
    with pytest.raises(ConfigError, match=r"metrics\(\) returned a tensor of shape \(2,\)"):
        _loss(trainer, trainer.init())
