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

from fedmq.errors import ConfigError
from fedmq.model_files import warm_keras
from fedmq.model_files.naming import matched
from fedmq.model_files.warm_keras import WarmModel
from fedmq.tensors import TensorRole, Weights
from fedmq_client.frameworks import configuration
from fedmq_client.frameworks.held_out import WithTestData
from fedmq_client.frameworks.keras_examples import KerasExamples
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

    _warm: ClassVar[dict[tuple[bool, frozenset[str]], WarmModel]]
    """Each class has its own, which is freed with it: a package that is read anew has new classes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._data: KerasExamples | None = None

    def model(self) -> Any:
        """Returns a compiled model, the same for every client. Called once a process; the model is shared."""
        raise NotImplementedError("write model(self) and return a compiled Keras model")

    def data(self, client: Client) -> Any:
        """Returns this client's inputs and targets, `x, y`, and weights of examples as a third part if need be. Called once.

        Arrays, lists, DataFrames, of equal length; several inputs or outputs in a tuple or dict. Or a finite tf.data
        pipeline of `x, y`, batched or not, which is read once, into memory: batches and their order are made here.
        """
        raise NotImplementedError("write data(self, client) and return x, y")

    def init(self) -> Weights:
        """Returns new weights, drawn from `client.random_seed`. Raises ConfigError if `data` returns what can't be used."""
        model = self._new_model(self.client.random_seed)
        self._check_examples(model)
        return warm_keras.weights_of(model)

    def roles(self) -> dict[str, str]:
        """Returns the role of each tensor, by name."""
        return warm_keras.roles_of(self._new_model(0))

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]] | None:
        """Trains for some epochs. Abstains without data. Raises ConfigError for wrong settings or other weights.

        Tensors of `task.frozen` are not trained, and are returned as they are. So are constants, such as the state of a
        random generator, which training may change.
        """
        config = configuration.read(task.config, self.config_keys)
        examples = self._examples()
        if len(examples) == 0:
            return weights, 0, {}
        warm = self._warm_model(config.proximal_mu > 0, weights, task.frozen)
        warm.start(weights, task.seed, config.learning_rate, config.proximal_mu)
        orders = np.random.default_rng(task.seed)
        watch = _watch(task, config.epochs * -(-len(examples) // config.batch_size))
        logs: dict[str, float] = {}
        for _ in range(config.epochs):
            history = warm.model.fit(
                **examples.rows(orders.permutation(len(examples))),
                batch_size=config.batch_size,
                shuffle=False,
                verbose=0,
                callbacks=[watch],
            )
            logs = {name: float(values[-1]) for name, values in history.history.items()}
        new = warm.weights()
        kept = {name for name, role in task.meta.get("roles", {}).items() if role == TensorRole.CONSTANT} | task.frozen
        return {name: weights[name] if name in kept else new[name] for name in new}, len(examples), logs

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]] | None:
        """Scores the weights on this client's data. Abstains without any."""
        examples = self._examples()
        if len(examples) == 0:
            return 0, {}
        warm = self._warm_model(False, weights, task.frozen)
        warm.load(weights)
        watch = _watch(task, -(-len(examples) // EVALUATION_BATCH))
        logs = warm.model.evaluate(
            **examples.rows(slice(None)), batch_size=EVALUATION_BATCH, verbose=0, return_dict=True, callbacks=[watch]
        )
        return len(examples), {name: float(value) for name, value in logs.items()}

    def _examples(self, model: Any = None) -> KerasExamples:
        if self._data is None:
            inputs = getattr(self._warm_model(False).model if model is None else model, "inputs", None)
            self._data = KerasExamples(*self._given(), len(inputs[0].shape) if inputs else None)
        return self._data

    def _check_examples(self, model: Any) -> None:
        try:
            self._examples(model)
        except ConfigError:
            raise
        except Exception:
            # `init` may run where there is no data. The first task reports this error.
            return

    def _warm_model(
        self, proximal: bool, weights: Weights | None = None, frozen: frozenset[str] = frozenset()
    ) -> WarmModel:
        """Returns the model that the process reuses. Of those with frozen tensors of `weights`, only the last is kept."""
        own, key = type(self), (proximal, frozen)
        if "_warm" not in vars(own):
            own._warm = {}
        if key not in own._warm:
            for other in [other for other in own._warm if other[1] not in (frozenset(), frozen)]:
                del own._warm[other]
            model = self._new_model(0)
            received = matched(weights, warm_keras.names(model)) if weights else []
            warm_keras.freeze(model, [position for position, name in enumerate(received) if name in frozen])
            own._warm[key] = WarmModel(model, proximal)
        return own._warm[key]

    def _new_model(self, seed: int) -> Any:
        warm_keras.set_seed(seed)
        model = self.model()
        return warm_keras.built(model, lambda: self._examples(model).rows(slice(0, 1))["x"])


def _watch(task: Task, batches: int) -> Any:
    """Returns a callback that reports progress, and ends a cancelled task, after each batch."""
    done = itertools.count(1)

    def after_batch(batch: int, logs: Mapping[str, Any] | None = None) -> None:
        task.check()
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        task.report(next(done) / batches, **metrics)

    return keras.callbacks.LambdaCallback(on_train_batch_end=after_batch, on_test_batch_end=after_batch)
