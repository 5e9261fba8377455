"""What the trainer of every framework promises."""

import gc
import random
import re
import weakref
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from client.frameworks.examples import X, Y
from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq.model_files.naming import plain
from fedmq_client import Cancelled, Client, Task, Weights
from support.tiers import require_framework

# Each test imports a framework by its name, which the sorting of tests does not see.
pytestmark = pytest.mark.real

CLIENT = Client("c", device="cpu", random_seed=4)


@pytest.fixture(params=["keras", "torch", "sklearn"], scope="module")
def framework(request: pytest.FixtureRequest) -> Any:
    """The module of a framework's small trainers."""
    require_framework(request.param)
    return import_module(f"client.frameworks.small_{request.param}")


@pytest.fixture(scope="module")
def trainer(framework: Any) -> Any:
    return framework.Small(CLIENT)


@pytest.fixture(scope="module")
def first(trainer: Any) -> Weights:
    weights: Weights = trainer.init()
    return weights


def _task(seed: int = 1, **config: Any) -> Task:
    return Task(client=CLIENT, seed=seed, config=config)


def _trained(trainer: Any, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]]:
    answer: tuple[Weights, int, dict[str, float]] | None = trainer.train(_copy(weights), task)
    assert answer is not None
    return answer


def _train(trainer: Any, weights: Weights, seed: int = 1, **config: Any) -> bytes:
    return tensors.encode(_trained(trainer, weights, _task(seed, **config))[0])


def _copy(weights: Weights) -> Weights:
    return {name: value.copy() for name, value in weights.items()}


def test_first_weights_come_from_the_clients_random_seed(framework: Any, trainer: Any, first: Weights) -> None:
    assert tensors.encode(trainer.init()) == tensors.encode(first)
    other = framework.Small(Client("c", device="cpu", random_seed=5)).init()
    assert other.keys() == first.keys()
    assert tensors.encode(other) != tensors.encode(first)


def test_the_same_task_gives_the_same_bytes_whatever_came_before(framework: Any, trainer: Any, first: Weights) -> None:
    expected = _train(trainer, first, epochs=2)
    _train(trainer, first, seed=9, learning_rate=0.5, batch_size=8)
    trainer.validate(_copy(first), _task())
    random.seed(77)
    np.random.seed(77)
    assert _train(trainer, first, epochs=2) == expected
    assert _train(framework.Small(Client("another", device="cpu")), first, epochs=2) == expected
    assert _train(trainer, first, seed=2, epochs=2) != expected


def test_training_learns_and_reports_plain_metrics(framework: Any, trainer: Any, first: Weights) -> None:
    before = trainer.validate(_copy(first), _task())
    weights, examples, metrics = _trained(trainer, first, _task(epochs=30, learning_rate=0.01))
    assert (examples, metrics.keys()) == (70, framework.METRICS)
    after = trainer.validate(weights, _task())
    assert all(type(value) is float for value in (*metrics.values(), *after[1].values()))
    assert (after[0], after[1].keys()) == (70, {"loss", "accuracy"})
    assert after[1]["loss"] < before[1]["loss"] / 1.5
    assert after[1]["accuracy"] > 0.85


def test_data_is_loaded_once_a_trainer(framework: Any, first: Weights) -> None:
    trainer = framework.Small(CLIENT)
    before = framework.Small.loads
    for _ in range(2):
        trainer.train(_copy(first), _task())
        trainer.validate(_copy(first), _task())
    assert framework.Small.loads == before + 1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"epoch": 2},
            "unknown configuration 'train.epoch': did you mean train.epochs\\? known are train.epochs, train.batch_size",
        ),
        ({"zzz": 2}, "unknown configuration 'train.zzz': known are train.epochs, .*, train.mine"),
        ({"epochs": 0}, "epochs is 0: give an int of 1 or more"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": "8"}, "batch_size is '8'"),
        ({"learning_rate": 0}, "learning_rate is 0: give a number above 0"),
    ],
)
def test_a_bad_configuration_is_refused(trainer: Any, first: Weights, config: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        trainer.train(_copy(first), _task(**config))


def test_a_subclass_may_have_keys_of_its_own(trainer: Any, first: Weights) -> None:
    assert trainer.train(_copy(first), _task(mine="x")) is not None


def test_weights_of_another_model_are_refused(trainer: Any, first: Weights) -> None:
    last = list(first)[-1]
    with pytest.raises(ConfigError, match=f"not the one that model.. makes: it lacks ({last}|{plain(last)})$"):
        trainer.validate({name: value for name, value in first.items() if name != last}, _task())
    with pytest.raises(ConfigError, match=re.escape(f"{last} of shape (7,), and ")):
        trainer.validate({**_copy(first), last: np.zeros(7, np.float32)}, _task())


def test_a_cancelled_task_ends_within_a_batch_and_reports_progress(
    framework: Any, trainer: Any, first: Weights
) -> None:
    reports: list[tuple[float, dict[str, Any]]] = []
    task = Task(
        client=CLIENT,
        config={"batch_size": 10},
        progress=lambda *report: reports.append(report),
        is_cancelled=lambda: bool(reports),
    )
    with pytest.raises(Cancelled):
        trainer.train(_copy(first), task)
    [(fraction, metrics)] = reports
    assert fraction == pytest.approx(1 / 7)
    assert metrics.keys() == framework.METRICS


def test_a_client_without_data_abstains(framework: Any, first: Weights) -> None:
    empty = type("Empty", (framework.Small,), {"examples": (X[:0], Y[:0])})(CLIENT)
    assert empty.train(_copy(first), _task())[1:] == (0, {})
    assert empty.validate(_copy(first), _task()) == (0, {})


def test_inputs_and_targets_of_other_lengths_are_refused(framework: Any, first: Weights) -> None:
    uneven = type("Uneven", (framework.Small,), {"examples": (X, Y[:-1])})(CLIENT)
    with pytest.raises(ConfigError, match=r"70 inputs and 69 targets|arrays of 69 and 70 examples"):
        uneven.train(_copy(first), _task())


def test_a_method_that_a_subclass_forgets_is_named(framework: Any) -> None:
    bare = framework.Base(CLIENT)
    for method in (bare.model, lambda: bare.data(CLIENT)):
        with pytest.raises(NotImplementedError, match="write"):
            method()


@pytest.mark.parametrize("name", ["keras", "torch"])
@pytest.mark.parametrize(("rate", "mu"), [(0.1, 0.0), (0.1, 0.5), (0.025, 0.5)])
def test_a_step_is_the_gradient_and_the_proximal_term_is_mu_times_the_distance(
    name: str, rate: float, mu: float
) -> None:
    require_framework(name)
    module = import_module(f"client.frameworks.small_{name}")
    # One example a step at w: the gradient is 2 (w - 3) + mu (w - w0), with w0 = 1.
    w = 1.0
    for _ in range(2):
        w -= rate * (2 * (w - 3) + mu * (w - 1))
    config: dict[str, Any] = {"batch_size": 1, "proximal_mu": mu} | ({"learning_rate": rate} if rate != 0.1 else {})
    weights, _, _ = _trained(module.Line(CLIENT), {module.WEIGHT: np.ones((1, 1), np.float32)}, _task(**config))
    assert weights[module.WEIGHT].item() == pytest.approx(w)


@pytest.mark.parametrize("name", ["keras", "torch"])
def test_a_negative_proximal_term_is_refused(name: str) -> None:
    require_framework(name)
    trainer = import_module(f"client.frameworks.small_{name}").Small(CLIENT)
    with pytest.raises(ConfigError, match="proximal_mu is -1: give a number of 0 or more"):
        trainer.train(trainer.init(), _task(proximal_mu=-1))


def test_an_evaluator_scores_the_test_data_and_a_client_that_trains_never_calls_for_them(framework: Any) -> None:
    class Tested(framework.Small):  # type: ignore[misc]
        def test_data(self, client: Client) -> Any:
            assert client.evaluator
            return X[:7], Y[:7]

    evaluator = Client("e", device="cpu", tasks=("validate",))
    tested, trains = Tested(evaluator), Tested(CLIENT)
    first = trains.init()
    assert tested.test_set
    assert tested.validate(_copy(first), Task(client=evaluator))[0] == 7
    assert trains.validate(_copy(first), _task())[0] == len(X)
    assert trains.train(_copy(first), _task())[1] == len(X)


def test_without_test_data_a_trainer_states_no_test_set_unless_it_says_so_itself(framework: Any) -> None:
    class Stated(framework.Small):  # type: ignore[misc]
        test_set = True

    evaluator = Client("e", device="cpu", tasks=("validate",))
    assert not framework.Small(evaluator).test_set
    assert Stated(evaluator).validate(Stated(CLIENT).init(), Task(client=evaluator))[0] == len(X)


def test_what_a_class_keeps_for_its_tasks_is_freed_with_the_class(framework: Any, first: Weights) -> None:
    """A package that is read anew has new classes. A network refers to them, by the globals of its module's file."""

    def trained() -> weakref.ref[Any]:
        class Other(framework.Small):  # type: ignore[misc]
            def model(self) -> Any:
                made = super().model()
                made.owner = Other
                return made

        trainer = Other(CLIENT)
        trainer.train(_copy(first), _task())
        return weakref.ref(Other)

    kept = trained()
    gc.collect()
    assert kept() is None
