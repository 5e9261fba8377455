"""KerasTrainer: stable names and roles, a clean state for each task, the same bytes for the same task."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Cancelled, Client, KerasTrainer, Task, Weights

RNG = np.random.default_rng(3)
X = RNG.normal(size=(70, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


class Small(KerasTrainer):
    """Dropout, batch-norm, an optimizer with state, and a last batch that is not full."""

    config_keys = ("mine",)
    loads = 0

    def model(self) -> keras.Model:
        model = keras.Sequential(
            [
                layers.Input((4,)),
                layers.Dense(8, activation="relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                layers.Dense(2, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
        type(self).loads += 1
        return X, Y


@pytest.fixture(scope="module")
def trainer() -> Small:
    return Small(Client("c", random_seed=4))


@pytest.fixture(scope="module")
def first(trainer: Small) -> Weights:
    return trainer.init()


def _task(seed: int = 1, **config: Any) -> Task:
    return Task(client=Client("c"), seed=seed, config=config)


def _train(trainer: KerasTrainer, weights: Weights, seed: int = 1, **config: Any) -> bytes:
    answer = trainer.train(weights, _task(seed, **config))
    assert answer is not None
    return tensors.encode(answer[0])


def test_names_are_positions_and_do_not_depend_on_what_was_built_before(trainer: Small) -> None:
    names = [
        "0000/kernel", "0001/bias",
        "0002/gamma", "0003/beta", "0004/moving_mean", "0005/moving_variance",
        "0006/kernel", "0007/bias",
    ]  # fmt: skip
    for _ in range(2):
        assert list(trainer.init()) == names


def test_sorted_by_name_weights_are_what_keras_takes(trainer: Small, first: Weights) -> None:
    trained = _train(trainer, first)
    weights = tensors.decode(trained)[0]
    model = trainer.model()
    model.set_weights([weights[name] for name in sorted(weights)])
    scored = trainer.validate(weights, _task())
    assert scored is not None
    direct = model.evaluate(X, Y, batch_size=256, verbose=0, return_dict=True)
    assert scored[0] == 70
    assert scored[1] == pytest.approx(direct)


def test_roles_tell_batch_norm_statistics_from_what_is_trained(trainer: Small) -> None:
    roles = trainer.roles()
    assert {name for name, role in roles.items() if role == "statistic"} == {
        "0004/moving_mean",
        "0005/moving_variance",
    }
    assert set(roles.values()) == {"statistic", "trainable"}


def test_first_weights_come_from_the_clients_random_seed(trainer: Small, first: Weights) -> None:
    assert tensors.encode(trainer.init()) == tensors.encode(first)
    other = Small(Client("c", random_seed=5)).init()
    assert tensors.encode(other) != tensors.encode(first)


def test_the_same_task_gives_the_same_bytes_whatever_came_before(trainer: Small, first: Weights) -> None:
    expected = _train(trainer, first, epochs=2)
    _train(trainer, first, seed=9, learning_rate=0.5, batch_size=8)
    trainer.validate(first, _task())
    keras.utils.set_random_seed(77)
    assert _train(trainer, first, epochs=2) == expected
    assert _train(Small(Client("another")), first, epochs=2) == expected
    assert _train(trainer, first, seed=2, epochs=2) != expected


def test_the_first_task_of_a_class_gives_the_same_bytes_as_a_later_one(trainer: Small, first: Weights) -> None:
    class Fresh(Small):
        pass

    assert _train(Fresh(Client("c")), first) == _train(trainer, first)


def test_training_learns_and_tells_plain_metrics(trainer: Small, first: Weights) -> None:
    before = trainer.validate(first, _task())
    answer = trainer.train(first, _task(epochs=30, learning_rate=0.01))
    assert before is not None and answer is not None
    weights, examples, metrics = answer
    assert examples == 70
    assert set(metrics) == {"loss", "accuracy"}
    assert all(type(value) is float for value in metrics.values())
    after = trainer.validate(weights, _task())
    assert after is not None
    assert after[1]["loss"] < before[1]["loss"] / 1.5
    assert after[1]["accuracy"] > 0.85


def test_data_is_loaded_once_a_trainer(first: Weights) -> None:
    trainer = Small(Client("c"))
    before = Small.loads
    for _ in range(2):
        trainer.train(first, _task())
        trainer.validate(first, _task())
    assert Small.loads == before + 1


def test_a_proximal_term_holds_weights_to_those_received(trainer: Small, first: Weights) -> None:
    def moved(mu: float) -> float:
        weights = tensors.decode(_train(trainer, first, epochs=5, proximal_mu=mu))[0]
        names = [name for name, role in trainer.roles().items() if role == "trainable"]
        return float(sum(np.square(weights[name] - first[name]).sum() for name in names))

    free = moved(0.0)
    assert moved(1.0) < free
    assert moved(1000.0) < moved(1.0) / 2
    assert moved(0.0) == free


def test_the_proximal_gradient_is_mu_times_the_distance() -> None:
    class Line(KerasTrainer):
        def model(self) -> keras.Model:
            model = keras.Sequential([layers.Input((1,)), layers.Dense(1, use_bias=False)])
            model.compile(keras.optimizers.SGD(0.1), "mse")
            return model

        def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
            return np.ones((2, 1), np.float32), np.full((2, 1), 3, np.float32)

    # One example a step at w: the gradient is 2 (w - 3) + mu (w - w0), with w0 = 1.
    w = 1.0
    for _ in range(2):
        w -= 0.1 * (2 * (w - 3) + 0.5 * (w - 1))
    answer = Line(Client("c")).train({"0000/kernel": np.ones((1, 1), np.float32)}, _task(batch_size=1, proximal_mu=0.5))
    assert answer is not None
    assert answer[0]["0000/kernel"].item() == pytest.approx(w)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"epoch": 2}, "unknown configuration 'epoch': did you mean epochs\\? known are epochs, batch_size"),
        ({"zzz": 2}, "unknown configuration 'zzz': known are epochs, .*, mine"),
        ({"epochs": 0}, "epochs is 0: give an int of 1 or more"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": "8"}, "batch_size is '8'"),
        ({"learning_rate": 0}, "learning_rate is 0: give a number above 0"),
        ({"proximal_mu": -1}, "proximal_mu is -1: give a number of 0 or more"),
    ],
)
def test_a_bad_configuration_is_refused(trainer: Small, first: Weights, config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        trainer.train(first, _task(**config))


def test_a_subclass_may_have_keys_of_its_own(trainer: Small, first: Weights) -> None:
    assert trainer.train(first, _task(mine="x")) is not None


def test_weights_of_another_model_are_refused(trainer: Small, first: Weights) -> None:
    with pytest.raises(ConfigError, match="only one of them has 0007/bias"):
        trainer.validate({name: value for name, value in first.items() if name != "0007/bias"}, _task())
    with pytest.raises(ConfigError, match=r"0007/bias of shape \(3,\), and model\(\) makes \(2,\)"):
        trainer.validate({**first, "0007/bias": np.zeros(3, np.float32)}, _task())


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
    fraction, metrics = told[0]
    assert fraction == pytest.approx(1 / 7)
    assert set(metrics) == {"loss", "accuracy"}


def test_a_client_without_data_abstains(first: Weights) -> None:
    class Empty(Small):
        def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
            return X[:0], Y[:0]

    trainer = Empty(Client("c"))
    assert trainer.train(first, _task()) is None
    assert trainer.validate(first, _task()) is None


def test_what_a_subclass_forgets_is_said(first: Weights) -> None:
    class Loose(Small):
        def model(self) -> keras.Model:
            return keras.Sequential([layers.Input((4,)), layers.Dense(1)])

        def data(self, client: Client) -> tuple[np.ndarray, np.ndarray]:
            return X, Y[:-1]

    with pytest.raises(ConfigError, match=r"model\(\) must return a compiled model"):
        Loose(Client("c")).init()
    with pytest.raises(ConfigError, match="70 inputs and 69 targets"):
        Loose(Client("c")).train(first, _task())
    for method in (KerasTrainer(Client("c")).init, lambda: KerasTrainer(Client("c")).data(Client("c"))):
        with pytest.raises(NotImplementedError, match="write"):
            method()


def test_a_model_that_does_not_know_its_input_is_built_from_data() -> None:
    class Lazy(Small):
        def model(self) -> keras.Model:
            model = keras.Sequential([layers.Dense(2, activation="softmax")])
            model.compile("sgd", "sparse_categorical_crossentropy")
            return model

    weights = Lazy(Client("c", data=Path())).init()
    assert {name: value.shape for name, value in weights.items()} == {"0000/kernel": (4, 2), "0001/bias": (2,)}
