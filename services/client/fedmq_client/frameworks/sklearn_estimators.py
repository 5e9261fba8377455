"""The arrays of a scikit-learn estimator that are averaged, and which estimators have them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

from fedmq.errors import ConfigError


def parameters_of(estimator: Any) -> dict[str, NDArray[Any]]:
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
    raise _not_averaged(estimator)


def refuse_other(estimator: Any) -> None:
    """Raises ConfigError for an estimator that can't go on from given arrays, with what to do instead."""
    name = type(estimator).__name__
    if isinstance(estimator, Pipeline):
        *before, last = [type(step).__name__ for _, step in estimator.steps]
        first = (
            f", and apply {' and '.join(before)} to x in data(), with the same numbers at each client" if before else ""
        )
        raise ConfigError(f"a Pipeline can't be averaged as a whole: return its {last} from model(){first}")
    settings = estimator.get_params()
    if settings.get("average"):
        raise ConfigError(
            f"{name} with average={settings['average']!r} can't go on from the model of a round, as it continues from "
            "averages of its own: leave average out"
        )
    if settings.get("solver") == "liblinear":
        raise ConfigError(
            f"{name} can't go on from the model of a round with solver='liblinear', as each fit starts anew: use another "
            "solver, such as lbfgs, with warm_start=True"
        )
    if hasattr(estimator, "partial_fit") or settings.get("warm_start"):
        return
    if isinstance(estimator, (MLPClassifier, MLPRegressor)):
        raise ConfigError(f"{name} with solver={settings['solver']!r} has no partial_fit: use the solver adam or sgd")
    if not any(cls.__module__.startswith("sklearn.linear_model") for cls in type(estimator).__mro__):
        raise _not_averaged(estimator)
    if "warm_start" in settings:
        raise ConfigError(f"{name} has no partial_fit: set warm_start=True")
    other = "SGDClassifier" if is_classifier(estimator) else "SGDRegressor"
    raise ConfigError(f"{name} can't go on from the model of a round, as each fit starts anew: use {other}")


def _not_averaged(estimator: Any) -> ConfigError:
    kind = "Classifier" if is_classifier(estimator) else "Regressor"
    return ConfigError(
        f"{type(estimator).__name__} can't be averaged: use a linear model, such as SGD{kind}, or a network, such as "
        f"MLP{kind}; else a trainer of your own: its model is a uint8 array of the bytes, padded to one length, with the "
        "role opaque and clients_requested = 1"
    )


def copies(estimator: Any) -> list[NDArray[Any]]:
    """Returns copies of the arrays, in the order of `parameters_of`."""
    return [np.array(array) for array in parameters_of(estimator).values()]


def forget_training(estimator: Any) -> None:
    """Resets what fitting to zeros changed: weights of linear models, counts of steps, a network's optimizer."""
    if hasattr(estimator, "coefs_"):
        vars(estimator).pop("_optimizer", None)
    else:
        parameters = parameters_of(estimator)
        estimator.coef_ = np.zeros_like(parameters["coef"])
        estimator.intercept_ = np.zeros(np.shape(parameters["intercept"]))
    if hasattr(estimator, "t_"):
        estimator.t_ = type(estimator.t_)(0 if hasattr(estimator, "coefs_") else 1)


def set_learning_rate(estimator: Any, rate: float) -> None:
    """Sets a constant learning rate. Raises ConfigError if the estimator has none."""
    known = estimator.get_params()
    if "eta0" in known:
        estimator.set_params(eta0=rate)
        if "learning_rate" in known:
            estimator.set_params(learning_rate="constant")
    elif "learning_rate_init" in known:
        estimator.set_params(learning_rate_init=rate)
    else:
        raise ConfigError(f"{type(estimator).__name__} has no learning rate to set")
