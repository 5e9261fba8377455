"""SklearnTrainer: a trainer from a scikit-learn estimator and data.

class MyTrainer(SklearnTrainer):
    classes = range(10)

    def model(self):
        return SGDClassifier(loss="log_loss")

    def data(self, client):
        return x, y
"""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error

from fedmq.errors import ConfigError
from fedmq.model_files.naming import matched, positional
from fedmq.tensors import Weights
from fedmq_client.frameworks import configuration
from fedmq_client.frameworks.held_out import WithTestData
from fedmq_client.trainer import Client, Task

SEEDS = 2**32


class SklearnTrainer(WithTestData):
    """Trains and validates a scikit-learn estimator.

    A subclass writes `model` and `data`, `classes` if it classifies, and `test_data` if there is a test set. An estimator
    can be used if its parameters are `coef_` and `intercept_`, or `coefs_` and `intercepts_`, and it has `partial_fit`
    (SGDClassifier, SGDRegressor, MLPClassifier, …) or `warm_start` (LogisticRegression). A session may configure:

    - `epochs` (1): passes over the data; with `warm_start` its `max_iter`, which is else as `model` sets it;
    - `batch_size` (32), of `partial_fit`;
    - `learning_rate` (as in `model`).

    Any other key that is not in `config_keys` is an error. Each task starts from a new estimator with `random_state` from
    `task.seed`.
    """

    classes: ClassVar[Sequence[Any] | None] = None
    """All labels of all clients. They are never read from a client's own data: a client that has no example of a class must
    still agree with the others on what the tensors mean."""
    config_keys: ClassVar[tuple[str, ...]] = ()
    """Further keys of the configuration, which a subclass reads from `task.config` itself."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._data: tuple[NDArray[Any], NDArray[Any]] | None = None

    def model(self) -> Any:
        """Returns a new estimator, not fitted, the same for every client."""
        raise NotImplementedError("write model(self) and return a scikit-learn estimator")

    def data(self, client: Client) -> tuple[Any, Any]:
        """Returns this client's examples, of shapes (n, features) and (n,). Called once."""
        raise NotImplementedError("write data(self, client) and return x, y")

    def init(self) -> Weights:
        """Returns weights, drawn by `client.random_seed` or zero. Of the data it reads only the number of features."""
        estimator = self._blank(self.client.random_seed)
        return dict(zip(positional(_parameters(estimator)), _copies(estimator), strict=True))

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]] | None:
        """Trains on this client's data. Abstains without any. Raises ConfigError for wrong settings or weights."""
        config = configuration.read(task.config, self.config_keys, without=("proximal_mu",))
        x, _ = self._examples()
        if len(x) == 0:
            return None
        estimator, names = self._loaded(weights, task.seed)
        if config.learning_rate is not None:
            _set_learning_rate(estimator, config.learning_rate)
        if hasattr(estimator, "partial_fit"):
            self._pass_over(estimator, config, task)
        else:
            if "epochs" in task.config:
                estimator.set_params(max_iter=config.epochs)
            self._fit(estimator)
        return dict(zip(names, _copies(estimator), strict=True)), len(x), {}

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]] | None:
        """Scores the weights on this client's data. Abstains without any.

        Classifiers have `accuracy`, and `loss` (log loss) if they give probabilities; others `loss` (mean square).
        """
        x, y = self._examples()
        if len(x) == 0:
            return None
        estimator, _ = self._loaded(weights, task.seed)
        found = estimator.predict(x)
        if self.classes is None:
            return len(x), {"loss": float(mean_squared_error(y, found))}
        metrics = {"accuracy": float(accuracy_score(y, found))}
        if hasattr(estimator, "predict_proba"):
            metrics["loss"] = float(log_loss(y, estimator.predict_proba(x), labels=self._labels()))
        return len(x), metrics

    def _pass_over(self, estimator: Any, config: configuration.Configuration, task: Task) -> None:
        x, y = self._examples()
        orders = np.random.default_rng(task.seed)
        starts = range(0, len(x), config.batch_size)
        for epoch in range(config.epochs):
            order = orders.permutation(len(x))
            for number, start in enumerate(starts):
                batch = order[start : start + config.batch_size]
                self._partial_fit(estimator, x[batch], y[batch])
                task.check()
                task.report((epoch * len(starts) + number + 1) / (config.epochs * len(starts)))

    def _fit(self, estimator: Any) -> None:
        """Fits from the weights on. An example of weight zero stands for each class that has none here."""
        x, y = self._examples()
        arguments: dict[str, Any] = {}
        if self.classes is not None:
            unseen = np.setdiff1d(self._labels(), y)
            if len(unseen):
                x = np.concatenate([x, np.zeros((len(unseen), x.shape[1]), x.dtype)])
                arguments["sample_weight"] = np.r_[np.ones(len(y)), np.zeros(len(unseen))]
                y = np.concatenate([y, unseen.astype(y.dtype)])
        with warnings.catch_warnings():
            # A round is meant to end before it converges.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(x, y, **arguments)

    def _partial_fit(self, estimator: Any, x: NDArray[Any], y: NDArray[Any]) -> None:
        if self.classes is None:
            estimator.partial_fit(x, y)
        else:
            estimator.partial_fit(x, y, classes=self._labels())

    def _blank(self, seed: int) -> Any:
        """Returns an estimator that was fitted to zeros, one for each class, so that it has its arrays."""
        estimator = clone(self.model())
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=seed % SEEDS)
        if not hasattr(estimator, "partial_fit") and not estimator.get_params().get("warm_start"):
            raise ConfigError(f"{type(estimator).__name__} has no partial_fit: set warm_start=True, if it has that")
        if is_classifier(estimator) and self.classes is None:
            raise ConfigError("set `classes` to all labels there are: a client may not have examples of each")
        labels = np.zeros(1) if self.classes is None else self._labels()
        zeros = np.zeros((len(labels), self._examples()[0].shape[1]))
        if hasattr(estimator, "partial_fit"):
            self._partial_fit(estimator, zeros, labels)
        else:
            estimator.fit(zeros, labels)
        _forget_training(estimator)
        return estimator

    def _loaded(self, weights: Weights, seed: int) -> tuple[Any, list[str]]:
        """Returns an estimator with these weights, and their names in the order of its parameters."""
        estimator = self._blank(seed)
        parameters = _parameters(estimator)
        names = matched(weights, positional(parameters))
        for name, array in zip(names, parameters.values(), strict=True):
            if array.shape != weights[name].shape:
                raise ConfigError(
                    f"the session's model has {name} of shape {weights[name].shape}, and this one has {array.shape}: "
                    "do all clients have the same features and classes?"
                )
            array[...] = weights[name]
        return estimator, names

    def _labels(self) -> NDArray[Any]:
        return np.unique(np.asarray(self.classes))

    def _examples(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._data is None:
            x, y = self._given()
            self._data = np.asarray(x), np.asarray(y)
            if len(self._data[0]) != len(self._data[1]):
                raise ConfigError(f"data() returned {len(self._data[0])} inputs and {len(self._data[1])} targets")
            if self.classes is not None:
                other = np.setdiff1d(self._data[1], self._labels())
                if len(other):
                    raise ConfigError(f"data() returned labels that are not in `classes`: {other[:3].tolist()}")
        return self._data


def _parameters(estimator: Any) -> dict[str, NDArray[Any]]:
    """Returns the estimator's own arrays by name, the layers of a network in order."""
    if hasattr(estimator, "coefs_"):
        layers = enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True))
        return {
            f"{name}.{number}": array
            for number, pair in layers
            for name, array in zip(("coefs", "intercepts"), pair, strict=True)
        }
    if hasattr(estimator, "coef_") and hasattr(estimator, "intercept_"):
        return {"coef": estimator.coef_, "intercept": estimator.intercept_}
    raise ConfigError(f"{type(estimator).__name__} has neither coef_ and intercept_ nor coefs_ and intercepts_")


def _copies(estimator: Any) -> list[NDArray[Any]]:
    return [np.array(array) for array in _parameters(estimator).values()]


def _forget_training(estimator: Any) -> None:
    """Resets what fitting to zeros changed: weights of linear models, counts of steps, a network's optimizer."""
    if hasattr(estimator, "coefs_"):
        vars(estimator).pop("_optimizer", None)
    else:
        parameters = _parameters(estimator)
        estimator.coef_ = np.zeros_like(parameters["coef"])
        estimator.intercept_ = np.zeros(np.shape(parameters["intercept"]))
    if hasattr(estimator, "t_"):
        estimator.t_ = type(estimator.t_)(0 if hasattr(estimator, "coefs_") else 1)


def _set_learning_rate(estimator: Any, rate: float) -> None:
    known = estimator.get_params()
    if "eta0" in known:
        estimator.set_params(eta0=rate)
        if "learning_rate" in known:
            estimator.set_params(learning_rate="constant")
    elif "learning_rate_init" in known:
        estimator.set_params(learning_rate_init=rate)
    else:
        raise ConfigError(f"{type(estimator).__name__} has no learning rate to set")
