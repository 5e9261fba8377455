"""A compiled Keras model that is kept from task to task, and whose every task starts afresh.

Building and tracing a model takes longer than a small task, so one is kept in a process and serves
all its clients. All that a task leaves behind is set anew by the next: weights, optimizer, random
generators; so a result never depends on what the process did before.
"""

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigError
from fedmq.model_files.naming import matched, positional
from fedmq.tensors import Weights

# Read by TensorFlow when it is imported; its greetings help nobody in a worker.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py  # noqa: E402
import keras  # noqa: E402

if keras.backend.backend() == "tensorflow":
    import tensorflow

    tensorflow.config.experimental.enable_op_determinism()


def set_seed(seed: int) -> None:
    """Seed Python's, numpy's and the framework's global generators."""
    keras.utils.set_random_seed(seed & 0xFFFFFFFF)


def names(model: Any) -> list[str]:
    """A name for each of `model.weights`: its position and its own name, as in `0003/kernel`.

    Sorted, they are in the order of `model.set_weights`. Keras' own counters, which depend on how
    many models a process has built, are left out.
    """
    return positional(re.sub(r"_[0-9]+$", "", variable.name) for variable in model.weights)


def weights_of(model: Any) -> Weights:
    """Copies of the model's weights, by `names`."""
    return {name: np.array(variable.numpy()) for name, variable in zip(names(model), model.weights, strict=True)}


def roles_of(model: Any) -> dict[str, str]:
    """The role of each tensor, by `names`.

    What a gradient trains is trainable; other floats, such as batch-norm means and variances, are
    statistics; integers are counters and flags are constant.
    """
    trained = {id(variable) for variable in model.trainable_variables}
    roles = {}
    for name, variable in zip(names(model), model.weights, strict=True):
        kind = np.dtype(keras.backend.standardize_dtype(variable.dtype)).kind
        if kind == "b":
            roles[name] = "constant"
        elif kind in "iu":
            roles[name] = "counter"
        else:
            roles[name] = "trainable" if id(variable) in trained else "statistic"
    return roles


def from_file(path: Path, kind: str) -> Any:
    """A Keras model from a file of this kind, keras or h5, whatever its suffix; compiled, if it can be.

    What would need code of the file's own to load is refused: ValueError or TypeError, as for other files that are no
    Keras models.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # Keras looks at the suffix alone.
        named = Path(folder, f"model.{kind}")
        named.symlink_to(path.absolute())
        # Of a saved optimizer's state, which nobody asks for here.
        warnings.simplefilter("ignore")
        with quiet():
            try:
                return keras.models.load_model(named, safe_mode=True)
            except (ValueError, TypeError, KeyError):
                # Such as a loss of the file's own, which has to do with training only.
                return keras.models.load_model(named, compile=False, safe_mode=True)


def save_h5(model: Any, path: Path) -> None:
    """The whole model as `.h5`, compiled if it is, without its optimizer's state: a task begins with a fresh one, and
    Keras 3 can't train on with one that it loads from this format."""
    with quiet():
        model.save(path)
    with h5py.File(path, "r+") as file:
        file.pop("optimizer_weights", None)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Keras' advice on formats and metrics, which is for its own users."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def from_json(network: str) -> Any:
    """A Keras model from `model.to_json()`, compiled if that was, with weights of its own."""
    return keras.models.model_from_json(network)


def built(model: Any, sample: Callable[[], NDArray[Any]]) -> Any:
    """The model with its weights made: for one that does not know its input's shape, by a call on
    `sample()`. Raises ConfigError if it is not compiled."""
    if getattr(model, "optimizer", None) is None:
        raise ConfigError("model() must return a compiled model: call model.compile(...) in it")
    if not model.built:
        model(sample())
    return model


class WarmModel:
    """A model with a clean state at the start of each task."""

    def __init__(self, model: Any, proximal: bool) -> None:
        """`proximal`: add mu / 2 * |w - w0|^2 to the training loss (FedProx, Li et al. 2020), where
        w0 are the weights of the last `start`."""
        self.model = model
        self._names = self._received = names(model)
        model.optimizer.build(model.trainable_variables)
        self._optimizer = [np.array(value) for value in _arrays(model.optimizer.variables)]
        kept = {id(variable) for variable in model.weights}
        self._generators = [value for value in model.variables if id(value) not in kept]
        self._mu: Any = None
        self._anchors: list[Any] = []
        if proximal:
            self._add_proximal_term()

    def load(self, weights: Weights) -> None:
        """Set all weights. Raises ConfigError if names or shapes are not the model's."""
        self._received = matched(weights, self._names)
        for name, variable in zip(self._received, self.model.weights, strict=True):
            if tuple(variable.shape) != weights[name].shape:
                raise ConfigError(
                    f"the session's model has {name} of shape {weights[name].shape}, "
                    f"and model() makes {tuple(variable.shape)}"
                )
            variable.assign(weights[name])

    def weights(self) -> Weights:
        """Copies of the weights, under the names of the last `load`."""
        return dict(zip(self._received, weights_of(self.model).values(), strict=True))

    def start(self, weights: Weights, seed: int, learning_rate: float | None, mu: float) -> None:
        """Be as a new model with these weights: optimizer at zero, generators at `seed`."""
        set_seed(seed)
        self.load(weights)
        optimizer = self.model.optimizer
        for variable, value in zip(optimizer.variables, self._optimizer, strict=True):
            variable.assign(value)
        if learning_rate is not None:
            optimizer.learning_rate = learning_rate
        states = np.random.SeedSequence(seed).generate_state(len(self._generators))
        for generator, state in zip(self._generators, states, strict=True):
            generator.assign(np.array([state, 0]).astype(generator.dtype))
        if self._mu is not None:
            self._mu.assign(mu)
            for anchor, variable in zip(self._anchors, self.model.trainable_variables, strict=True):
                anchor.assign(variable)

    def _add_proximal_term(self) -> None:
        trained = self.model.trainable_variables
        mu = self._mu = keras.Variable(0.0, trainable=False)
        anchors = [keras.Variable(value, trainable=False) for value in _arrays(trained)]
        self._anchors = anchors
        plain = self.model.compute_loss

        def compute_loss(*arguments: Any, training: bool = True, **named: Any) -> Any:
            loss = plain(*arguments, training=training, **named)
            if not training:
                return loss
            squares = [
                keras.ops.sum(keras.ops.square(keras.ops.subtract(value, anchor)))
                for value, anchor in zip(trained, anchors, strict=True)
            ]
            return loss + mu / 2 * sum(squares)

        self.model.compute_loss = compute_loss


def _arrays(variables: Iterable[Any]) -> list[NDArray[Any]]:
    return [variable.numpy() for variable in variables]
