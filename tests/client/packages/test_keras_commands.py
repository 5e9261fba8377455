"""Commands in the form of 2020: whole Keras models in .h5, in and out, without metadata."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from client.packages.commanding import run
from fedmq import tensors
from fedmq.model_files import formats, warm_keras
from fedmq_client import Client
from fedmq_client.job.job import Job

# Keras 3 on numpy 2, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MANIFEST = """
format: h5
entry_points:
  train: {command: python3 train.py}
  validate: {command: python3 validate.py}
"""
TRAIN = """
import sys
import numpy as np
import tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
x = np.ones((8, 4), np.float32)
model.fit(x, np.full((8, 1), 10.0), epochs=2, verbose=0)
model.save(sys.argv[2])
"""
VALIDATE = """
import json, sys
import numpy as np
import tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
loss = model.evaluate(np.ones((8, 4), np.float32), np.full((8, 1), 10.0), verbose=0)
with open(sys.argv[2], "w") as file:
    json.dump({"loss": float(loss), "report": "text"}, file)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "fedn.yaml").write_text(MANIFEST)
    (folder / "train.py").write_text(TRAIN)
    (folder / "validate.py").write_text(VALIDATE)
    model = keras.Sequential([layers.Input((4,)), layers.Dense(1, kernel_initializer="zeros")])
    # Not "mse": Keras 3 writes that to .h5 so that it can't read it.
    model.compile(keras.optimizers.SGD(0.05), keras.losses.MeanSquaredError())
    with warm_keras.quiet():
        model.save(tmp_path / "seed.h5")
    return folder


def test_a_package_of_2020_trains_and_validates(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    seed = run(Job("i", Client("c"), package, "init"))[0]
    assert isinstance(seed.update, bytes), seed
    weights, meta = tensors.decode(seed.update)
    assert not any(array.any() for array in weights.values())
    trained = run(Job("t", Client("c"), package, "train", model=seed.update))[0]
    assert isinstance(trained.update, bytes), trained
    assert trained.examples == 1
    assert "each update weighs 1" in caplog.text
    delta, after = tensors.decode(trained.update)
    assert after == meta
    # Two steps of gradient descent on (4w + b - 10)^2, from zero.
    w = b = 0.0
    for _ in range(2):
        slope = 2 * (4 * w + b - 10)
        w, b = w - 0.05 * slope, b - 0.05 * slope
    np.testing.assert_allclose(delta["0000/kernel"], w, rtol=1e-5)
    np.testing.assert_allclose(delta["0001/bias"], b, rtol=1e-5)
    scored = run(Job("v", Client("c"), package, "validate", model=seed.update))[0]
    assert (scored.examples, scored.metrics) == (None, {"loss": 100.0, "report": "text"})


def test_a_seed_without_a_network_is_refused(package: Path) -> None:
    model = tensors.encode({"0": np.ones(1)})
    assert (
        "needs a seed that is a whole Keras model"
        in run(Job("t", Client("c"), package, "train", model=model))[0].reason
    )


def test_what_is_no_keras_model_is_said(package: Path) -> None:
    (package / "train.py").write_text("import sys\nopen(sys.argv[2], 'w').write('x')\n")
    model = formats.read(package.parent / "seed.h5").blob()
    reason = run(Job("t", Client("c"), package, "train", model=model))[0].reason
    assert "what the train command wrote is no Keras model" in reason
