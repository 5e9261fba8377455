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
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error
from sklearn.utils.class_weight import compute_class_weight

from fedmq.errors import ConfigError
from fedmq.model_files.naming import matched, positional
from fedmq.tensors import Weights
from fedmq_client.frameworks import configuration
from fedmq_client.frameworks.held_out import WithTestData
from fedmq_client.frameworks.sklearn_estimators import (
    copies,
    forget_training,
    parameters_of,
    refuse_other,
    set_learning_rate,
)
from fedmq_client.frameworks.sklearn_examples import SklearnExamples
from fedmq_client.trainer import Client, Task

SEEDS = 2**32


class SklearnTrainer(WithTestData):
    """Trains and validates a scikit-learn estimator.

    A subclass writes `model` and `data`, `classes` if it classifies, and `test_data` if there is a test set. An estimator
    can be used if its parameters are `coef_` and `intercept_`, or `coefs_` and `intercepts_`, and it has `partial_fit`
    (SGDClassifier, SGDRegressor, MLPClassifier, …) or `warm_start` (LogisticRegression). A session may configure:

    - `epochs` (1): passes over the data; with `warm_start` its `max_iter`, which is else as `model` sets it;
    - `batch_size` (32), of `partial_fit`: a network takes a step a batch, a linear model a step an example;
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
        self._data: SklearnExamples | None = None

    def model(self) -> Any:
        """Returns a new estimator, not fitted, the same for every client."""
        raise NotImplementedError("write model(self) and return a scikit-learn estimator")

    def data(self, client: Client) -> tuple[Any, Any]:
        """Returns this client's examples `x, y`, of shapes (n, features) and (n,). Called once.

        `x` may be an array, a list, a DataFrame, or a sparse matrix, which stays sparse; `y` an array, a list or a Series.
        """
        raise NotImplementedError("write data(self, client) and return x, y")

    def init(self) -> Weights:
        """Returns weights, drawn by `client.random_seed` or zero. Of the data it reads only the number of features."""
        estimator = self._blank(self.client.random_seed)
        return dict(zip(positional(parameters_of(estimator)), copies(estimator), strict=True))

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]] | None:
        """Trains on this client's data. Abstains without any. Raises ConfigError for wrong settings or weights.

        Tensors of `task.frozen` are reset after each step. Raises ConfigError for any if the estimator fits all at once.
        """
        config = configuration.read(task.config, self.config_keys, without=("proximal_mu",))
        examples = self._examples()
        if len(examples) == 0:
            return weights, 0, {}
        estimator, names = self._loaded(weights, task.seed)
        if config.learning_rate is not None:
            set_learning_rate(estimator, config.learning_rate)
        if hasattr(estimator, "partial_fit"):
            frozen = {position: weights[name] for position, name in enumerate(names) if name in task.frozen}
            self._pass_over(estimator, config, task, frozen)
        else:
            _refuse_unused(estimator, task)
            if "epochs" in task.config:
                estimator.set_params(max_iter=config.epochs)
            self._fit(estimator)
        return dict(zip(names, copies(estimator), strict=True)), len(examples), {}

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]] | None:
        """Scores the weights on this client's data. Abstains without any.

        Classifiers have `accuracy`, and `loss` (log loss) if they give probabilities; others `loss` (mean square).
        """
        examples = self._examples()
        if len(examples) == 0:
            return 0, {}
        x, y = examples.x, examples.y
        estimator, _ = self._loaded(weights, task.seed)
        found = estimator.predict(x)
        if self.classes is None:
            return len(examples), {"loss": float(mean_squared_error(y, found))}
        metrics = {"accuracy": float(accuracy_score(y, found))}
        if hasattr(estimator, "predict_proba"):
            metrics["loss"] = float(log_loss(y, estimator.predict_proba(x), labels=self._labels()))
        return len(examples), metrics

    def _pass_over(
        self, estimator: Any, config: configuration.Configuration, task: Task, frozen: dict[int, NDArray[Any]]
    ) -> None:
        examples = self._examples()
        orders = np.random.default_rng(task.seed)
        linear = not hasattr(estimator, "coefs_")
        # A linear model takes a step an example, so that only batches of one keep frozen tensors constant.
        size = 1 if frozen and linear else config.batch_size
        one_step = estimator.get_params().get("batch_size") == "auto"
        starts = range(0, len(examples), size)
        for epoch in range(config.epochs):
            order = orders.permutation(len(examples))
            for number, start in enumerate(starts):
                batch = order[start : start + size]
                if one_step:
                    estimator.set_params(batch_size=len(batch))
                # The tensors of a linear model are float64, and it takes examples of no other dtype.
                x = examples.x[batch].astype(np.float64) if linear else examples.x[batch]
                self._partial_fit(estimator, x, examples.y[batch])
                arrays = list(parameters_of(estimator).values())
                for position, value in frozen.items():
                    arrays[position][...] = value
                task.check()
                task.report((epoch * len(starts) + number + 1) / (config.epochs * len(starts)))

    def _fit(self, estimator: Any) -> None:
        """Fits from the weights on. An example of weight zero stands for each class that has none here."""
        x, y = self._examples().x, self._examples().y
        arguments: dict[str, Any] = {}
        if self.classes is not None:
            unseen = np.setdiff1d(self._labels(), y)
            if len(unseen):
                zeros = np.zeros((len(unseen), x.shape[1]), x.dtype)
                x = sparse.vstack([x, zeros]) if sparse.issparse(x) else np.concatenate([x, zeros])
                arguments["sample_weight"] = np.r_[np.ones(len(y)), np.zeros(len(unseen))]
                if estimator.get_params().get("class_weight") == "balanced":
                    # Of a class without weight, scikit-learn divides by zero.
                    seen = np.unique(y)
                    balanced = compute_class_weight("balanced", classes=seen, y=y)
                    estimator.set_params(class_weight=dict(zip(seen.tolist(), balanced.tolist(), strict=True)))
                y = np.concatenate([y, unseen])
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
        """Returns an estimator that was fitted to zeros, one for each class, so that it has its arrays.

        The target of generalized linear models is 1, as zero is none of a gamma distribution.
        """
        estimator = clone(self.model())
        refuse_other(estimator)
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=seed % SEEDS)
        if is_classifier(estimator) and self.classes is None:
            raise ConfigError("set `classes` to all labels there are: a client may not have examples of each")
        examples = self._examples()
        target = float(isinstance(estimator, (PoissonRegressor, GammaRegressor, TweedieRegressor)))
        labels = np.full((1, *examples.y.shape[1:]), target) if self.classes is None else self._labels()
        zeros = np.zeros((len(labels), examples.features))
        if hasattr(estimator, "partial_fit"):
            self._partial_fit(estimator, zeros, labels)
        else:
            estimator.fit(zeros, labels)
        forget_training(estimator)
        return estimator

    def _loaded(self, weights: Weights, seed: int) -> tuple[Any, list[str]]:
        """Returns an estimator with these weights, and their names in the order of its parameters."""
        estimator = self._blank(seed)
        parameters = parameters_of(estimator)
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

    def _examples(self) -> SklearnExamples:
        if self._data is None:
            self._data = SklearnExamples(*self._given(), None if self.classes is None else self._labels())
        return self._data


def _refuse_unused(estimator: Any, task: Task) -> None:
    """Raises ConfigError for what an estimator that fits all at once can't do."""
    name = type(estimator).__name__
    if task.frozen:
        raise ConfigError(
            f"{name} fits all of its tensors at once, so the policy can't freeze some: use an estimator with partial_fit, "
            "such as SGDClassifier or SGDRegressor"
        )
    if "batch_size" in task.config:
        raise ConfigError(f"{name} has no batches: leave out batch_size, or use an estimator with partial_fit")
