"""What each key of `tensors`, `update` and `train` does in each shipped trainer and template: a number, or a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.packages.commanding import run
from fedmq import tensors
from fedmq.tensors import Weights, splitting
from fedmq_cli.package_trial import make_package, templates
from fedmq_client import Client
from fedmq_client.frameworks import registered
from fedmq_client.frameworks.configuration import Configuration
from fedmq_client.job.job import Job, Result
from fedmq_client.job.partial_model import KEPT
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Tensors, UpdateBounds
from support.packages import write_package
from support.tiers import require_framework

pytestmark = pytest.mark.real

GENERATOR = """
import keras
import numpy as np
from keras import layers, ops
from fedmq_client import KerasTrainer

class Noise(layers.Layer):
    def __init__(self):
        super().__init__()
        self.state = self.add_weight(shape=(2,), dtype="uint32", trainable=False, initializer="zeros", name="state")

    def call(self, x, training=False):
        if training:
            self.state.assign(self.state + ops.cast(1, "uint32"))
        return x

class Trainer(KerasTrainer):
    def model(self):
        flip, flat = layers.RandomFlip(seed=1), layers.Flatten()
        network = [layers.Input((4, 4, 1)), flip, Noise(), flat, layers.Dropout(0.5, seed=2), layers.Dense(1)]
        model = keras.Sequential(network)
        model.compile("sgd", "mse")
        return model

    def data(self, client):
        return np.ones((20, 4, 4, 1), "float32"), np.ones((20, 1), "float32")
"""

FLOWER = """
import numpy as np

class Client:
    def get_parameters(self, config):
        return [np.zeros(4), np.zeros(1)]
    def fit(self, parameters, config):
        step = config.get("learning_rate", 0.1) * config.get("epochs", 1)
        return [value + step for value in parameters], 100, {f"got {key}": value for key, value in config.items()}
    def evaluate(self, parameters, config):
        return 0.5, 100, {}
"""


@dataclass(frozen=True)
class Row:
    """A trainer. `head` and `body` are patterns that divide its tensors. `refused` are keys that it must not accept."""

    template: str
    head: str
    body: str
    refused: frozenset[str] = frozenset()
    notes: bool = False
    """Whether it changes frozen tensors, which costs a note."""


NO_BATCHES = frozenset({"batch_size", "proximal_mu"})
ROWS = {
    "torch": Row("torch", "*/2.*", "*/0.*"),
    "keras": Row("keras", "000[23]/*", "000[01]/*"),
    "sklearn": Row("sklearn", "0000/*", "0001/*", frozenset({"proximal_mu"})),
    "mlp": Row("sklearn", "000[23]/*", "000[01]/*", frozenset({"proximal_mu"})),
    "numpy": Row("numpy", "w", "b", NO_BATCHES),
    "command": Row("command", "0", "1", NO_BATCHES, notes=True),
    "flower": Row("", "0", "1", notes=True),
}
"""A NumPyClient of Flower decides itself what its configuration means: the matrix asserts that it receives it."""
TRAIN: Mapping[str, tuple[Any, Any]] = {
    "epochs": (1, 3),
    "batch_size": (20, 80),
    "learning_rate": (0.001, 0.05),
    "proximal_mu": (0.0, 5.0),
}
"""Two values of each key that all frameworks know."""
BOTH: dict[str, Any] = {"epochs": 2, "learning_rate": 0.01}
"""A task that moves each tensor."""


def test_the_matrix_has_a_row_for_each_trainer_and_a_column_for_each_key() -> None:
    assert {row.template for row in ROWS.values() if row.template} == set(templates())
    assert set(registered()) <= set(ROWS)
    assert set(TRAIN) == set(Configuration.__dataclass_fields__)
    assert set(Tensors.model_fields) == {"frozen", "share", "local"}
    assert set(UpdateBounds.model_fields) == {"clip_norm", "max_norm"}


class Package:
    """A trainer of a row, with its first model."""

    def __init__(self, name: str, folder: Path) -> None:
        self.row = ROWS[name]
        if name == "flower":
            self.folder = folder
            (folder / "fedn.yaml").write_text("trainer: flower:app.py:Client\n")
            (folder / "app.py").write_text(FLOWER)
        else:
            self.folder = make_package(folder / name, self.row.template)
        if name == "mlp":
            file = self.folder / "trainer.py"
            text = file.read_text().replace(
                "from sklearn.linear_model import SGDClassifier", "from sklearn import neural_network"
            )
            file.write_text(
                text.replace(
                    'SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.05)',
                    "neural_network.MLPClassifier((8,))",
                ).replace("-> SGDClassifier", "-> neural_network.MLPClassifier")
            )
        made = self.run("init", model=None)
        assert made.outcome == "done", made
        assert isinstance(made.update, bytes)
        self.weights, self.meta = tensors.decode(made.update)

    def run(self, kind: str, **fields: Any) -> Result:
        job: Any = Job("j", Client("c", count=10, device="cpu"), self.folder, kind, random_seed=3, **fields)  # type: ignore[arg-type]
        return run(job)[0]

    def train(self, policy: Tensors | None = None, update: Mapping[str, Any] | None = None, **config: Any) -> Result:
        shared, meta, base, base_meta = splitting.split(self.weights, self.meta, policy or Tensors())
        fields = {"base": tensors.encode(base, base_meta)} if base else {}
        return self.run("train", model=tensors.encode(shared, meta), config=config, update=update or {}, **fields)

    def delta(self, result: Result) -> Weights:
        assert result.outcome == "done", result
        assert isinstance(result.update, bytes)
        return tensors.decode(result.update)[0]

    def named(self, pattern: str) -> set[str]:
        return set(splitting.split(self.weights, self.meta, Tensors(share=(pattern,)))[0])


def norm(delta: Weights) -> float:
    return float(np.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in delta.values())))


@pytest.fixture(scope="module", params=ROWS)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    name = request.param
    if name in ("torch", "keras", "sklearn", "mlp"):
        require_framework("sklearn" if name == "mlp" else name)
    return Package(name, tmp_path_factory.mktemp(name))


def test_a_task_moves_each_tensor(package: Package) -> None:
    moved = package.delta(package.train(**BOTH))
    assert {name for name, value in moved.items() if norm({name: value}) > 1e-4} == set(package.weights)


@pytest.mark.parametrize("key", ["frozen", "share"])
def test_frozen_tensors_stay_and_the_others_are_trained(package: Package, key: str) -> None:
    body, head = package.row.body, package.row.head
    result = package.train(Tensors(frozen=(body,)) if key == "frozen" else Tensors(share=(head,)), **BOTH)
    delta = package.delta(result)
    assert set(delta) == package.named(head)
    assert norm(delta) > 1e-3
    expected = f"the policy freezes {min(package.named(body))}"
    assert [note.startswith(expected) for note in result.notes] == ([True] if package.row.notes else [])


def test_local_tensors_are_trained_and_kept_at_the_client(package: Package) -> None:
    result = package.train(Tensors(local=(package.row.head,)), **BOTH)
    whole = package.delta(package.train(**BOTH))
    assert isinstance(result.state, bytes)
    kept = {name.removeprefix(KEPT): value for name, value in tensors.decode(result.state)[0].items()}
    assert set(kept) == package.named(package.row.head)
    assert set(package.delta(result)) == package.named(package.row.body)
    for name, value in kept.items():
        np.testing.assert_allclose(value, package.weights[name] + whole[name], rtol=1e-5)


def test_clip_norm_bounds_the_norm_of_the_update(package: Package) -> None:
    free = norm(package.delta(package.train(**BOTH)))
    clipped = norm(package.delta(package.train(update={"clip_norm": free / 2}, **BOTH)))
    assert clipped == pytest.approx(free / 2, rel=1e-5)
    assert norm(package.delta(package.train(update={"clip_norm": free * 2}, **BOTH))) == pytest.approx(free)


def test_max_norm_rejects_a_longer_update_and_accepts_a_shorter_one(package: Package) -> None:
    free = norm(package.delta(package.train(**BOTH)))
    accepted = {}
    for bound in (free * 100, free / 100):
        policy = {"rounds": 1, "retries": 0, "train": BOTH, "update": {"max_norm": bound}, "validation": "none"}
        with Sandbox(package.folder, policy=policy, clients=1, workers=0, evaluator=False) as sandbox:
            accepted[bound] = sandbox.run()["state"]
    assert list(accepted.values()) == ["finished", "failed"]


@pytest.mark.parametrize("key", TRAIN)
def test_a_key_of_train_has_its_effect_or_is_refused(
    package: Package, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    less, more = TRAIN[key]
    common: dict[str, Any] = {"learning_rate": 0.01, "epochs": 4} if key == "proximal_mu" else {}
    one, two = (package.train(**common, **{key: value}) for value in (less, more))
    if key in package.row.refused:
        assert two.outcome == "failed"
        assert f"unknown configuration train.{key}" in f"{two.reason} {capfd.readouterr().err}".replace("'", "")
        return
    shorter, longer = norm(package.delta(one)), norm(package.delta(two))
    if package.row.template == "":
        assert two.metrics[f"got {key}"] == more
    elif key in ("epochs", "learning_rate"):
        # More steps, or longer ones.
        assert longer > 1.3 * shorter
    elif key == "batch_size" and package.row is ROWS["sklearn"]:
        # SGDClassifier takes a step an example, whatever the batch.
        assert longer == pytest.approx(shorter, rel=0.1)
    elif key == "batch_size":
        # A fourth of the steps.
        assert longer < 0.9 * shorter
    else:
        # Held to the received weights.
        assert longer < 0.9 * shorter


def test_a_keras_network_with_generators_and_their_state_is_trained(tmp_path: Path) -> None:
    require_framework("keras")
    package = write_package(tmp_path, GENERATOR)
    with Sandbox(package, rounds=2, retries=0, clients=2, workers=1, evaluator=False, random_seed=3) as sandbox:
        ended = sandbox.run()
        assert ended["state"] == "finished", ended["reason"]
        assert [each["outcomes"] for each in sandbox.records.find(tables.PARTICIPATION)] == [["accepted"] * 2] * 2
        model = sandbox.read()
    assert model.meta["roles"] == {"0000/state": "constant", "0001/kernel": "trainable", "0002/bias": "trainable"}
    assert model.weights["0000/state"].tolist() == [0, 0]
    assert model.weights["0002/bias"].tolist() != [0]
