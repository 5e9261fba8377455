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


def test_a_layer_whose_weights_are_all_frozen_works_as_in_inference() -> None:
    class Deep(Small):
        def model(self) -> keras.Model:
            body = keras.Sequential([layers.Input((4,)), layers.Dense(8), layers.BatchNormalization()])
            head = [layers.BatchNormalization(), layers.Dense(2, activation="softmax")]
            model = keras.Sequential([layers.Input((4,)), body, *head])
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            return model

    trainer = Deep(Client("c", random_seed=4))
    weights = trainer.init()
    frozen = set(list(weights)[:6])
    answers: dict[frozenset[str], set[bytes]] = {}
    for names in (frozen, frozenset[str](), frozen):
        task = Task(client=Client("c"), seed=1, config={"proximal_mu": 0.1}, frozen=names)
        answer = trainer.train(weights, task)
        assert answer is not None
        assert {name for name, value in answer[0].items() if (value == weights[name]).all()} == names
        assert trainer.validate(answer[0], task) is not None
        answers.setdefault(frozenset(names), set()).add(tensors.encode(answer[0]))
    assert [len(found) for found in answers.values()] == [1, 1]


@pytest.mark.parametrize("of", [("moving_mean", "moving_variance"), ("moving_variance",)])
def test_a_batch_norm_whose_statistics_are_frozen_is_trained_as_it_is_scored(of: tuple[str, ...]) -> None:
    class Normed(Small):
        def model(self) -> keras.Model:
            parts = [layers.Input((4,)), layers.BatchNormalization(), layers.Dense(2, activation="softmax")]
            model = keras.Sequential(parts)
            model.compile("sgd", "sparse_categorical_crossentropy")
            return model

    trainer = Normed(Client("c", random_seed=4))
    weights = trainer.init()
    frozen = frozenset(name for name in weights if name.endswith(of))
    still = Task(client=Client("c"), seed=1, config={"learning_rate": 1e-12}, frozen=frozen)
    answer, scored = trainer.train(weights, still), trainer.validate(weights, still)
    assert answer is not None and scored is not None
    assert answer[2]["loss"] == pytest.approx(scored[1]["loss"], rel=1e-4)
    moved = trainer.train(weights, Task(client=Client("c"), seed=1, frozen=frozen))
    assert moved is not None
    assert {name for name in ("0000/gamma", "0001/beta") if (moved[0][name] != weights[name]).any()}, "still trained"


def test_a_frozen_dense_layer_and_its_batch_norm_give_what_a_smaller_network_learns() -> None:
    class Whole(Small):
        def model(self) -> keras.Model:
            model = keras.Sequential([layers.Input((4,)), layers.BatchNormalization(), layers.Dense(1)])
            model.compile("sgd", "mse")
            return model

    class Head(Small):
        def model(self) -> keras.Model:
            model = keras.Sequential([layers.Input((4,)), layers.Dense(1)])
            model.compile("sgd", "mse")
            return model

        examples = (X / np.sqrt(np.float32(1.001)), Y)

    weights = Whole(Client("c", random_seed=4)).init()
    frozen = set(list(weights)[:4])
    whole = Whole(Client("c")).train(weights, Task(client=Client("c"), seed=1, frozen=frozen))
    head = dict(zip(("0000/kernel", "0001/bias"), list(weights.values())[4:], strict=True))
    alone = Head(Client("c")).train(head, Task(client=Client("c"), seed=1))
    assert whole is not None and alone is not None
    for one, other in zip(list(whole[0].values())[4:], alone[0].values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_model_without_a_trained_weight_is_refused(trainer: Small, first: Weights) -> None:
    frozen = {name for name in first if "moving" not in name}
    with pytest.raises(ConfigError, match="no weight is left to train"):
        trainer.train(first, Task(client=Client("c"), frozen=frozen))
