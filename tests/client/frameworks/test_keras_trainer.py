"""KerasTrainer: names by position, roles, and models as Keras itself has them."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from client.frameworks.examples import X, Y
from client.frameworks.small_keras import Small
from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Client, KerasTrainer, Task, Weights


@pytest.fixture(scope="module")
def trainer() -> Small:
    return Small(Client("c", random_seed=4))


@pytest.fixture(scope="module")
def first(trainer: Small) -> Weights:
    return trainer.init()


def _task(seed: int = 1) -> Task:
    return Task(client=Client("c"), seed=seed)


def _train(trainer: KerasTrainer, weights: Weights) -> Weights:
    answer = trainer.train(weights, _task())
    assert answer is not None
    return answer[0]


def test_names_are_positions_and_do_not_depend_on_what_was_built_before(trainer: Small) -> None:
    names = ["0000/kernel", "0001/bias", "0002/gamma", "0003/beta"]
    names += ["0004/moving_mean", "0005/moving_variance", "0006/kernel", "0007/bias"]
    for _ in range(2):
        assert list(trainer.init()) == names


def test_sorted_by_name_weights_are_what_keras_takes(trainer: Small, first: Weights) -> None:
    weights = _train(trainer, first)
    model = trainer.model()
    model.set_weights([weights[name] for name in sorted(weights)])
    scored = trainer.validate(weights, _task())
    assert scored is not None
    direct = model.evaluate(X, Y, batch_size=256, verbose=0, return_dict=True)
    assert scored[1] == pytest.approx(direct)


def test_roles_tell_batch_norm_statistics_from_what_is_trained(trainer: Small) -> None:
    roles = trainer.roles()
    statistics = {name for name, role in roles.items() if role == "statistic"}
    assert statistics == {"0004/moving_mean", "0005/moving_variance"}
    assert set(roles.values()) == {"statistic", "trainable"}


def test_the_first_task_of_a_class_gives_the_same_bytes_as_a_later_one(trainer: Small, first: Weights) -> None:
    class Fresh(Small):
        pass

    keras.utils.set_random_seed(77)
    assert tensors.encode(_train(Fresh(Client("c")), first)) == tensors.encode(_train(trainer, first))


def test_a_model_that_is_not_compiled_is_refused() -> None:
    class Loose(Small):
        def model(self) -> keras.Model:
            return keras.Sequential([layers.Input((4,)), layers.Dense(1)])

    with pytest.raises(ConfigError, match=r"model\(\) must return a compiled model"):
        Loose(Client("c")).init()


def test_a_model_that_does_not_know_its_input_is_built_from_data() -> None:
    class Lazy(Small):
        def model(self) -> keras.Model:
            model = keras.Sequential([layers.Dense(2, activation="softmax")])
            model.compile("sgd", "sparse_categorical_crossentropy")
            return model

    weights = Lazy(Client("c", data=Path())).init()
    assert {name: np.shape(value) for name, value in weights.items()} == {"0000/kernel": (4, 2), "0001/bias": (2,)}
