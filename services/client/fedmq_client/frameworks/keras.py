"""KerasTrainer: a trainer from a compiled Keras model and data.

class MyTrainer(KerasTrainer):
    def model(self):
        model = keras.Sequential([...])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def data(self, client):
        return x, y
"""

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigError
from fedmq.model_files import warm_keras
from fedmq.model_files.warm_keras import WarmModel
from fedmq.tensors import Weights
from fedmq_client.frameworks import configuration
from fedmq_client.frameworks.held_out import WithTestData
from fedmq_client.trainer import Client, Task

EVALUATION_BATCH = 256


class KerasTrainer(WithTestData):
    """Trains and validates a Keras model; a subclass writes `model` and `data`, and `test_data` if there is a test set.

    A session may configure `epochs` (1), `batch_size` (32), `learning_rate` (as compiled) and
    `proximal_mu` (0); any other key that is not in `config_keys` is an error. Metrics are those
    that the model was compiled with, and `loss`; training reports those of its last epoch. Examples
    are shuffled by `task.seed`. The same task gives the same weights on the same machine with the
    same number of threads. Tensors are named by position, as in `0003/kernel`; a seed that is a list of arrays will do too.
    """

    config_keys: ClassVar[tuple[str, ...]] = ()
    """Further keys of the configuration, which a subclass reads from `task.config` itself."""

    _warm: ClassVar[dict[tuple[type, bool], WarmModel]] = {}

    def __init__(self, client: Client) -> None:
        self.client = client
        self._data: tuple[NDArray[Any], NDArray[Any]] | None = None

    def model(self) -> Any:
        """Returns a compiled model, the same for every client. Called once a process; the model is shared."""
        raise NotImplementedError("write model(self) and return a compiled Keras model")

    def data(self, client: Client) -> tuple[Any, Any]:
        """Returns inputs and targets of this client, arrays of equal length. Called once."""
        raise NotImplementedError("write data(self, client) and return x, y")

    def init(self) -> Weights:
        """Returns new weights, drawn from `client.random_seed`."""
        return warm_keras.weights_of(self._new_model(self.client.random_seed))

    def roles(self) -> dict[str, str]:
        """Returns the role of each tensor, by name."""
        return warm_keras.roles_of(self._new_model(0))

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]] | None:
        """Trains for some epochs. Abstains without data. Raises ConfigError for wrong settings or other weights."""
        config = configuration.read(task.config, self.config_keys)
        x, y = self._examples()
        if len(x) == 0:
            return None
        warm = self._warm_model(config.proximal_mu > 0)
        warm.start(weights, task.seed, config.learning_rate, config.proximal_mu)
        orders = np.random.default_rng(task.seed)
        watch = _watch(task, config.epochs * -(-len(x) // config.batch_size))
        logs: dict[str, float] = {}
        for _ in range(config.epochs):
            order = orders.permutation(len(x))
            history = warm.model.fit(
                x[order],
                y[order],
                batch_size=config.batch_size,
                shuffle=False,
                verbose=0,
                callbacks=[watch],
            )
            logs = {name: float(values[-1]) for name, values in history.history.items()}
        return warm.weights(), len(x), logs

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]] | None:
        """Scores the weights on this client's data. Abstains without any."""
        x, y = self._examples()
        if len(x) == 0:
            return None
        warm = self._warm_model(False)
        warm.load(weights)
        watch = _watch(task, -(-len(x) // EVALUATION_BATCH))
        logs = warm.model.evaluate(x, y, batch_size=EVALUATION_BATCH, verbose=0, return_dict=True, callbacks=[watch])
        return len(x), {name: float(value) for name, value in logs.items()}

    def _examples(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._data is None:
            x, y = self._given()
            self._data = np.asarray(x), np.asarray(y)
            if len(self._data[0]) != len(self._data[1]):
                raise ConfigError(f"data() returned {len(self._data[0])} inputs and {len(self._data[1])} targets")
        return self._data

    def _warm_model(self, proximal: bool) -> WarmModel:
        key = (type(self), proximal)
        if key not in self._warm:
            self._warm[key] = WarmModel(self._new_model(0), proximal)
        return self._warm[key]

    def _new_model(self, seed: int) -> Any:
        warm_keras.set_seed(seed)
        return warm_keras.built(self.model(), lambda: self._examples()[0][:1])


def _watch(task: Task, batches: int) -> Any:
    """Returns a callback that reports progress, and ends a cancelled task, after each batch."""
    done = itertools.count(1)

    def after_batch(batch: int, logs: Mapping[str, Any] | None = None) -> None:
        task.check()
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        task.report(next(done) / batches, **metrics)

    return keras.callbacks.LambdaCallback(on_train_batch_end=after_batch, on_test_batch_end=after_batch)
