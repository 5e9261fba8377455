"""SklearnTrainer: linear models and networks, classes that are fixed, a clean state for each task."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import GammaRegressor, LogisticRegression, RidgeClassifier, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Client, SklearnTrainer, Task, Weights
from fedmq_client.job.run import REASON_CHARACTERS

RNG = np.random.default_rng(3)
Y = np.arange(90) % 3
X = np.eye(3)[Y] + RNG.normal(scale=0.3, size=(90, 3))


class Linear(SklearnTrainer):
    classes: ClassVar[Sequence[Any] | None] = ("a", "b", "c")
    config_keys = ("mine",)
    seen: tuple[int, ...] = (0, 1, 2)

    def model(self) -> Any:
        return SGDClassifier(loss="log_loss")

    def data(self, client: Client) -> Any:
        mine = np.isin(Y, self.seen)
        return X[mine], np.array(["a", "b", "c"])[Y[mine]]


class Network(Linear):
    def model(self) -> Any:
        return MLPClassifier((5,), learning_rate_init=0.05)


class Warm(Linear):
    def model(self) -> Any:
        return LogisticRegression(warm_start=True, max_iter=3)


class Regression(SklearnTrainer):
    def model(self) -> Any:
        return SGDRegressor(learning_rate="constant", eta0=0.1, alpha=0)

    def data(self, client: Client) -> Any:
        return X, X @ [1.0, 2.0, 3.0] + 4


def _task(seed: int = 1, **config: Any) -> Task:
    return Task(client=Client("c"), seed=seed, config=config)


def _train(trainer: SklearnTrainer, weights: Weights, seed: int = 1, **config: Any) -> Weights:
    answer = trainer.train({name: value.copy() for name, value in weights.items()}, _task(seed, **config))
    assert answer is not None
    return answer[0]


def test_names_and_shapes_come_from_the_classes_and_the_features() -> None:
    assert {name: value.shape for name, value in Linear(Client("c")).init().items()} == {
        "0000/coef": (3, 3),
        "0001/intercept": (3,),
    }
    assert {name: value.shape for name, value in Network(Client("c")).init().items()} == {
        "0000/coefs.0": (3, 5),
        "0001/intercepts.0": (5,),
        "0002/coefs.1": (5, 3),
        "0003/intercepts.1": (3,),
    }
    assert {name: value.shape for name, value in Regression(Client("c")).init().items()} == {
        "0000/coef": (3,),
        "0001/intercept": (1,),
    }


def test_linear_models_start_at_zero_and_networks_at_random_whatever_the_clients_data() -> None:
    assert not any(value.any() for value in Linear(Client("c")).init().values())

    class Elsewhere(Network):
        seen = (1,)

    here, there = Network(Client("c", random_seed=2)).init(), Elsewhere(Client("d", random_seed=2)).init()
    assert tensors.encode(here) == tensors.encode(there)
    assert tensors.encode(here) != tensors.encode(Network(Client("c", random_seed=3)).init())
    assert here["0000/coefs.0"].any()


@pytest.mark.parametrize("kind", [Linear, Network, Warm, Regression])
def test_a_task_gives_the_same_bytes_whatever_was_done_before(kind: type[SklearnTrainer]) -> None:
    trainer = kind(Client("c"))
    first = trainer.init()
    once = tensors.encode(_train(trainer, first))
    _train(trainer, first, seed=9, epochs=2)
    trainer.validate(first, _task())
    np.random.seed(5)
    assert tensors.encode(_train(trainer, first)) == once
    assert tensors.encode(_train(kind(Client("d")), first)) == once
    assert once != tensors.encode(first)


@pytest.mark.parametrize("kind", [Linear, Network, Warm])
def test_rounds_go_on_where_the_last_one_ended(kind: type[SklearnTrainer]) -> None:
    trainer = kind(Client("c"))
    weights = trainer.init()
    losses = []
    for number in range(4):
        answer = trainer.validate(weights, _task())
        assert answer is not None
        losses.append(answer[1]["loss"])
        weights = _train(trainer, weights, seed=number)
    assert losses[3] < losses[0] / 2
    answer = trainer.validate(weights, _task())
    assert answer is not None and answer[0] == 90 and answer[1]["accuracy"] > 0.9


def test_a_regression_is_scored_by_its_mean_square_error() -> None:
    trainer = Regression(Client("c"))
    weights = _train(trainer, trainer.init(), epochs=30)
    np.testing.assert_allclose(weights["0000/coef"], [1, 2, 3], atol=0.05)
    answer = trainer.validate(weights, _task())
    assert answer is not None
    examples, metrics = answer
    assert examples == 90
    errors = X @ weights["0000/coef"] + weights["0001/intercept"] - X @ [1, 2, 3] - 4
    assert metrics["loss"] == pytest.approx(float(np.mean(errors**2)))


@pytest.mark.parametrize("kind", [Linear, Network, Warm])
@pytest.mark.parametrize("seen", [(1, 2), (2,)])
def test_a_class_that_a_client_has_never_seen_keeps_its_place(
    kind: type[SklearnTrainer], seen: tuple[int, ...]
) -> None:
    class Skewed(kind):  # type: ignore[valid-type, misc]
        pass

    Skewed.seen = seen
    trainer = Skewed(Client("c"))
    weights = kind(Client("c")).init()
    for number in range(5):
        weights = _train(trainer, weights, seed=number)
    whole = kind(Client("d"))
    answer = whole.validate(weights, _task())
    assert answer is not None
    # What it has seen it knows, and of the rest it knows nothing.
    assert answer[1]["accuracy"] == pytest.approx(len(seen) / 3, abs=0.05)


def test_a_fit_without_examples_of_a_class_is_at_the_minimum_of_its_own_examples_loss() -> None:
    class Converged(Warm):
        seen = (1, 2)

        def model(self) -> Any:
            return LogisticRegression(warm_start=True, max_iter=1000, tol=1e-10)

    trainer = Converged(Client("c"))
    weights = _train(trainer, trainer.init())
    x, y = trainer.data(Client("c"))
    scores = np.exp(x @ weights["0000/coef"].T + weights["0001/intercept"])
    errors = scores / scores.sum(axis=1, keepdims=True) - (y[:, None] == ["a", "b", "c"])
    gradient = weights["0000/coef"] + errors.T @ x
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


@pytest.mark.parametrize(
    ("labels", "own"), [(["no", "none"], np.array(["no"])), ([-1, 0, 300], np.array([0], dtype=np.uint8))]
)
def test_a_fit_keeps_labels_apart_that_the_dtype_of_a_clients_own_labels_can_not_hold(
    labels: list[Any], own: np.ndarray
) -> None:
    class Narrow(Warm):
        classes = labels

        def data(self, client: Client) -> Any:
            return X, own.repeat(len(X))

    trainer = Narrow(Client("c"))
    answer = trainer.validate(_train(trainer, trainer.init()), _task())
    assert answer is not None and answer[1]["accuracy"] == 1.0


@pytest.mark.filterwarnings("error")
def test_balanced_weights_are_those_of_the_classes_that_a_client_has() -> None:
    def trained(weight: Any) -> Weights:
        class Balanced(Warm):
            def model(self) -> Any:
                return LogisticRegression(warm_start=True, class_weight=weight)

            def data(self, client: Client) -> Any:
                return X[:40], np.where(np.arange(40) < 10, "a", "b")

        trainer = Balanced(Client("c"))
        return _train(trainer, trainer.init())

    found, by_hand = trained("balanced"), trained({"a": 2.0, "b": 40 / 60})
    assert found["0000/coef"].any()
    assert tensors.encode(found) == tensors.encode(by_hand)


def test_a_regression_of_positive_targets_goes_on_where_the_last_round_ended() -> None:
    class Positive(Regression):
        def model(self) -> Any:
            return GammaRegressor(warm_start=True, max_iter=2)

    trainer = Positive(Client("c"))
    weights = trainer.init()
    losses = []
    for number in range(3):
        weights = _train(trainer, weights, seed=number)
        answer = trainer.validate(weights, _task())
        assert answer is not None
        losses.append(answer[1]["loss"])
    assert losses[2] < losses[1] < losses[0]


def test_epochs_batches_and_the_learning_rate_are_the_sessions() -> None:
    trainer = Regression(Client("c"))
    first = trainer.init()
    assert tensors.encode(_train(trainer, first, learning_rate=0.2)) != tensors.encode(_train(trainer, first))
    assert tensors.encode(_train(trainer, first, batch_size=90)) != tensors.encode(_train(trainer, first, epochs=2))
    assert Linear(Client("c")).train(Linear(Client("c")).init(), _task(mine=1)) is not None
    network = Network(Client("c"))
    start = network.init()
    slow, fast = (_train(network, start, learning_rate=rate)["0000/coefs.0"] for rate in (1e-4, 0.1))
    assert np.abs(slow - start["0000/coefs.0"]).max() < np.abs(fast - start["0000/coefs.0"]).max() / 10
    with pytest.raises(ConfigError, match="LogisticRegression has no learning rate to set"):
        Warm(Client("c")).train(Warm(Client("c")).init(), _task(learning_rate=0.1))
    with pytest.raises(ConfigError, match=r"unknown configuration 'train\.proximal_mu'"):
        trainer.train(first, _task(proximal_mu=0.1))


LINEAR = (
    "use a linear model, such as SGDClassifier, or a network, such as MLPClassifier; else a trainer of your own: its model "
    "is a uint8 array of the bytes, padded to one length, with the role opaque and clients_requested = 1$"
)


def _trainer_of(estimator: Any) -> Linear:
    made: Linear = type("Wrong", (Linear,), {"model": lambda self: estimator})(Client("c"))
    return made


def test_the_refusal_of_the_longest_name_is_reported_whole() -> None:
    with pytest.raises(ConfigError, match=LINEAR) as caught:
        _trainer_of(HistGradientBoostingClassifier()).init()
    assert len(f"validate raised ConfigError: {caught.value}") <= REASON_CHARACTERS


@pytest.mark.parametrize(
    ("estimator", "words", "advised"),
    [
        (LogisticRegression(), "LogisticRegression has no partial_fit: set warm_start=True", Warm),
        (SGDClassifier(average=True), "SGDClassifier with average=True can't go on from .*: leave average out", Linear),
        (
            LogisticRegression(solver="liblinear", warm_start=True),
            "solver='liblinear', as each fit starts anew: use another solver, such as lbfgs, with warm_start=True",
            Warm,
        ),
        (MLPClassifier(solver="lbfgs"), "with solver='lbfgs' has no partial_fit: use the solver adam or sgd", Network),
        (GaussianNB(), f"GaussianNB can't be averaged: {LINEAR}", Network),
        (RandomForestClassifier(5), f"RandomForestClassifier can't be averaged: {LINEAR}", Linear),
        (RandomForestClassifier(5, warm_start=True), f"RandomForestClassifier can't be averaged: {LINEAR}", Linear),
        (RidgeClassifier(), "RidgeClassifier can't go on from .*, as each fit starts anew: use SGDClassifier", Linear),
        (
            make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss")),
            r"return its SGDClassifier from model\(\), and apply StandardScaler to x in data\(\), with the same numbers",
            Linear,
        ),
    ],
)
def test_an_estimator_that_can_not_be_averaged_is_refused_and_what_is_advised_works(
    estimator: Any, words: str, advised: type[SklearnTrainer]
) -> None:
    with pytest.raises(ConfigError, match=words):
        _trainer_of(estimator).init()

    class Scaled(advised):  # type: ignore[valid-type, misc]
        def data(self, client: Client) -> Any:
            x, y = super().data(client)
            return (x - 0.3) / 0.5, y

    trainer = Scaled(Client("c"))
    weights = _train(trainer, trainer.init())
    answer = trainer.validate(weights, _task())
    assert answer is not None and answer[1]["accuracy"] > 0.5


def test_a_fit_of_all_at_once_refuses_batches_and_frozen_tensors() -> None:
    trainer = Warm(Client("c"))
    first = trainer.init()
    with pytest.raises(ConfigError, match="LogisticRegression has no batches: leave out batch_size"):
        trainer.train(first, _task(batch_size=8))
    frozen = Task(client=Client("c"), frozen={"0001/intercept"})
    with pytest.raises(ConfigError, match="so the policy can't freeze some: use an estimator with partial_fit"):
        trainer.train(first, frozen)
    assert Linear(Client("c")).train(first, frozen) is not None


def test_a_linear_model_with_a_frozen_intercept_learns_as_one_without() -> None:
    class Free(Regression):
        def model(self) -> Any:
            return SGDRegressor(learning_rate="constant", eta0=0.1, alpha=0, shuffle=False)

    class Fixed(Regression):
        def model(self) -> Any:
            return SGDRegressor(learning_rate="constant", eta0=0.1, alpha=0, shuffle=False, fit_intercept=False)

    first = Free(Client("c")).init()
    answer = Free(Client("c")).train(first, Task(client=Client("c"), seed=1, frozen={"0001/intercept"}))
    assert answer is not None and not answer[0]["0001/intercept"].any()
    expected = _train(Fixed(Client("c")), first, batch_size=1)
    np.testing.assert_allclose(answer[0]["0000/coef"], expected["0000/coef"])


def test_a_network_takes_a_step_a_batch_of_any_size() -> None:
    class Long(Network):
        def data(self, client: Client) -> Any:
            x, y = super().data(client)
            return np.tile(x, (4, 1)), np.tile(y, 4)

        def model(self) -> Any:
            return MLPClassifier((5,), solver="sgd", momentum=0, learning_rate_init=0.1, alpha=0, shuffle=False)

    trainer = Long(Client("c"))
    first = trainer.init()
    # One step over all 360 examples is the same as one over the 90 that they repeat.
    long = _train(trainer, first, batch_size=360)
    plain = type("Plain", (Long,), {"data": Network.data})(Client("c"))
    expected = _train(plain, first, batch_size=90)
    for name, value in long.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-9)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ConfigError, match="set `classes` to all labels there are"):
        type("Unfixed", (Linear,), {"classes": None})(Client("c")).init()
    with pytest.raises(ConfigError, match=r"labels that are not in `classes`: \['c'\]"):
        type("Fewer", (Linear,), {"classes": ("a", "b")})(Client("c")).init()
    weights = Linear(Client("c")).init()
    with pytest.raises(ConfigError, match=r"0000/coef of shape \(2, 3\), and this one has \(3, 3\)"):
        Linear(Client("c")).validate({**weights, "0000/coef": np.zeros((2, 3))}, _task())
