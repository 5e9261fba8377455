"""Keras models: names, roles and files, and a compiled model that a process reuses for all its tasks.

Building and tracing a model takes longer than a small task, so a process keeps one for all its clients. Each task resets
weights, optimizer and random generators, so that no result depends on earlier tasks.
"""

import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigError
from fedmq.model_files.naming import matched, positional
from fedmq.tensors import Weights

# TensorFlow reads this at its import. Its messages at start are of no use in a worker.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow

    tensorflow.config.experimental.enable_op_determinism()


def set_seed(seed: int) -> None:
    """Seeds the global generators of Python, numpy and the framework."""
    keras.utils.set_random_seed(seed & 0xFFFFFFFF)


def names(model: Any) -> list[str]:
    """Returns a name for each of `model.weights`, in their order: position and own name, as in `0003/kernel`.

    The names omit Keras' counters, which depend on how many models the process has built.
    """
    return positional(re.sub(r"_[0-9]+$", "", variable.name) for variable in model.weights)


def weights_of(model: Any) -> Weights:
    """Returns copies of the model's weights, by `names`."""
    return {name: np.array(variable.numpy()) for name, variable in zip(names(model), model.weights, strict=True)}


def roles_of(model: Any) -> dict[str, str]:
    """Returns the role of each tensor, by `names`.

    Tensors with a gradient are trainable. Other floats, such as means and variances of batch norm, are statistics. Single
    integers are counters. Further integers, such as position ids or a generator's state, and booleans are constant.
    """
    trained = {id(variable) for variable in model.trainable_variables}
    roles = {}
    for name, variable in zip(names(model), model.weights, strict=True):
        kind = np.dtype(keras.backend.standardize_dtype(variable.dtype)).kind
        if kind == "b" or (kind in "iu" and math.prod(variable.shape) > 1):
            roles[name] = "constant"
        elif kind in "iu":
            roles[name] = "counter"
        else:
            roles[name] = "trainable" if id(variable) in trained else "statistic"
    return roles


def from_file(path: Path, kind: str) -> Any:
    """Loads a Keras model of this kind (`keras` or `h5`), whatever the file's suffix; compiled if possible.

    Raises `ValueError` or `TypeError` for a file that contains code, or that is not a Keras model.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # Keras determines the kind by the suffix alone.
        named = Path(folder, f"model.{kind}")
        named.symlink_to(path.absolute())
        # Warnings about the state of a saved optimizer, which is not used.
        warnings.simplefilter("ignore")
        with quiet():
            try:
                return keras.models.load_model(named, safe_mode=True)
            except (ValueError, TypeError, KeyError):
                # For example a custom loss, which only training needs.
                return keras.models.load_model(named, compile=False, safe_mode=True)


def has_network(path: Path) -> bool:
    """Returns whether an HDF5 file holds a whole model, and not weights alone. Raises OSError if it is damaged."""
    with h5py.File(path, "r") as file:
        return "model_config" in file.attrs


def with_weights(model: Any, path: Path) -> Any:
    """Loads an HDF5 file of weights alone into a model. Raises ValueError or KeyError if it is another network's."""
    with h5py.File(path, "r") as file:
        kind = "h5" if "layer_names" in file.attrs else "weights.h5"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = Path(folder, f"model.{kind}")  # Keras determines the kind by the suffix alone
        named.symlink_to(path.absolute())
        model.load_weights(named)
    return model


def save_h5(model: Any, path: Path) -> None:
    """Saves the model as `.h5`, without its optimizer's state: Keras 3 can't continue from it, and no task does."""
    with quiet():
        model.save(path)
    with h5py.File(path, "r+") as file:
        file.pop("optimizer_weights", None)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses Keras' advice on formats and metrics, which is for people who write Keras code."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def from_json(network: str) -> Any:
    """Returns a Keras model from `model.to_json()`, with fresh weights; compiled if the original was."""
    return keras.models.model_from_json(network)


def built(model: Any, sample: Callable[[], Any]) -> Any:
    """Returns the model with its weights, made by a call on `sample()` if need be. Raises `ConfigError` if not compiled."""
    if getattr(model, "optimizer", None) is None:
        raise ConfigError("model() must return a compiled model: call model.compile(...) in it")
    if not model.built:
        model(sample())
    return model


def freeze(model: Any, frozen: Collection[int]) -> None:
    """Excludes the weights of these positions from training. Raises `ConfigError` if none is left to train.

    A layer whose weights are all frozen is not trainable, so that a batch norm works as in inference. So does one whose
    moving mean or variance is frozen, although its scale and offset are trained: scores are by the frozen ones.
    """
    if not frozen:
        return
    ids = {id(variable) for position, variable in enumerate(model.weights) if position in frozen}
    for layer in _layers(model):
        if layer.weights and ids.issuperset(map(id, layer.weights)):
            layer.trainable = False
        elif isinstance(layer, keras.layers.BatchNormalization) and not ids.isdisjoint(
            (id(layer.moving_mean), id(layer.moving_variance))
        ):
            layer.call = _in_inference(layer.call)
    for variable in model.trainable_variables:
        if id(variable) in ids:
            variable.trainable = False
    if not model.trainable_variables:
        raise ConfigError("no weight is left to train: the policy or model() freezes each")


def _in_inference(call: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a batch norm's `call` that normalizes by the moving mean and variance, also in training."""
    return lambda inputs, training=None, mask=None: call(inputs, training=False, mask=mask)


def _layers(model: Any) -> Iterator[Any]:
    """Yields the layers of a model, also those inside of models and wrappers."""
    for layer in (*getattr(model, "layers", ()), *filter(None, [getattr(model, "layer", None)])):
        yield layer
        yield from _layers(layer)


class WarmModel:
    """A model that is reset at the start of each task."""

    def __init__(self, model: Any, proximal: bool) -> None:
        """With `proximal`, adds mu / 2 * |w - w0|^2 to the training loss (FedProx, Li et al. 2020).

        w0 are the weights of the latest `start`.
        """
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
        """Sets all weights. Raises `ConfigError` if names or shapes differ from the model's."""
        self._received = matched(weights, self._names)
        for name, variable in zip(self._received, self.model.weights, strict=True):
            if tuple(variable.shape) != weights[name].shape:
                raise ConfigError(
                    f"the session's model has {name} of shape {weights[name].shape}, "
                    f"and model() makes {tuple(variable.shape)}"
                )
            variable.assign(weights[name])

    def weights(self) -> Weights:
        """Returns copies of the weights, under the names of the latest `load`."""
        return dict(zip(self._received, weights_of(self.model).values(), strict=True))

    def start(self, weights: Weights, seed: int, learning_rate: float | None, mu: float) -> None:
        """Resets the model to these weights, a fresh optimizer, and generators seeded with `seed`."""
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
