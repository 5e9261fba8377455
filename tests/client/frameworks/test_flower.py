"""Flower's clients as trainers: a NumPyClient without Flower, and both of its APIs in an environment that has it."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from client.packages.commanding import run
from fedmq import tensors
from fedmq_client import Client
from fedmq_client.frameworks import flower
from fedmq_client.frameworks.flower_records import as_sent, renamed
from fedmq_client.job.job import Job, Result
from fedmq_client.job.load_trainer import build
from fedmq_client.packages import environments
from fedmq_client.packages.package import PackageError, load

ROOT = Path(__file__).parents[3]
MODEL = tensors.encode({"0000/w": np.array([1.0, 2.0], np.float32), "0001/b": np.array([3.0], np.float32)})

NUMPY = """
import numpy as np

class Client:
    def __init__(self, context=None):
        self.context = context
    def get_parameters(self, config):
        return [np.zeros(2, np.float32), np.zeros(1, np.float32)]
    def fit(self, parameters, config):
        part = self.context.node_config["partition-id"] if self.context else 0
        rate = self.context.run_config["learning-rate"] if self.context else 0.0
        return [value + 1 for value in parameters], 10, {"part": part, "rate": rate, **config}
    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 4, {"accuracy": 0.5}

class Wrapped:
    def __init__(self, numpy_client):
        self.numpy_client = numpy_client

def client_fn(context):
    return Wrapped(Client(context))

instance = Client()
wrong = lambda context: object()
number = 5
"""

APPS = """
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message: Message, context: Context):
    state = context.state
    count = state["counts"]["n"] if "counts" in state else 0
    state["counts"] = MetricRecord({"n": count + 1})
    state["notes"] = ConfigRecord({"raw": b"abc", "text": "t"})
    before = state["last"].to_numpy_ndarrays()[0] if "last" in state else np.zeros(1, np.float32)
    arrays = message.content["arrays"]
    new = {name: array.numpy() + 1 for name, array in arrays.items()}
    state["last"] = ArrayRecord([new["b"]])
    metrics = {
        "num-examples": 10, "count": count + 1, "before": float(before[0]),
        "part": context.node_config["partition-id"], "parts": context.node_config["num-partitions"],
        "rate": context.run_config["learning-rate"], "deep": context.run_config["deep.key"],
        "round": message.content["config"]["server-round"],
    }
    from flwr.app import Array
    arrays = ArrayRecord({name: Array(value) for name, value in new.items()})
    return Message(RecordDict({"a": arrays, "m": MetricRecord(metrics)}), reply_to=message)

@app.evaluate()
def evaluate(message, context):
    loss = float(sum(value.sum() for value in message.content["arrays"].to_numpy_ndarrays()))
    return Message(RecordDict({"m": MetricRecord({"num-examples": 4, "loss": loss})}), reply_to=message)

only_train = ClientApp()
@only_train.train()
def train_only(message, context):
    return Message(RecordDict({"m": MetricRecord({"num-examples": 1})}), reply_to=message)

class Numpy(NumPyClient):
    def __init__(self, part):
        self.part = part
    def get_parameters(self, config):
        return [np.zeros(2, np.float32), np.zeros(1, np.float32)]
    def fit(self, parameters, config):
        return [value + 1 for value in parameters], 10, {"part": self.part, "round": config["server-round"]}
    def evaluate(self, parameters, config):
        return float(sum(value.sum() for value in parameters)), 4, {"accuracy": 0.5}

class FitOnly(NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}

def client_fn(context: Context):
    return Numpy(context.node_config["partition-id"]).to_client()

def fit_only_fn(context: Context):
    return FitOnly().to_client()

older = ClientApp(client_fn=client_fn)
older_fit_only = ClientApp(client_fn=fit_only_fn)
"""

PROJECT = """
[tool.flwr.app.config]
learning-rate = 0.1
deep.key = 7
"""

# Runs jobs in the interpreter that has Flower, and prints what came of them.
RUNNER = """
import base64, json, sys
from dataclasses import replace
from pathlib import Path
from fedmq_client import Client
from fedmq_client.job.job import Job
from fedmq_client.job.run import Hooks, run
from fedmq_client.job.trainers import Trainers

folder, model = Path(sys.argv[1]), base64.b64decode(sys.argv[2])
trainers, answers, state = Trainers(), [], None
for number, (name, kind) in enumerate(json.loads(sys.argv[3])):
    package = folder / name
    package.mkdir(exist_ok=True)
    (package / "fedn.yaml").write_text("trainer: flower:apps.py:" + name)
    for file in ("apps.py", "pyproject.toml"):
        (package / file).write_text((folder / file).read_text())
    job = Job(str(number), Client("c", ordinal=2, count=5), package, kind, round=3, model=model, state=state)
    job = replace(job, model=None) if kind == "init" else replace(job, config={"learning-rate": 0.5})
    result = run(job, trainers, Hooks(print, print, lambda: False))
    state = result.state
    update = base64.b64encode(result.update).decode() if result.update else ""
    answers.append([result.outcome, result.examples, result.metrics, update, result.reason])
print(json.dumps(answers))
"""


def _package(folder: Path, name: str) -> Path:
    (folder / "fedn.yaml").write_text(f"trainer: flower:client_app.py:{name}")
    (folder / "client_app.py").write_text(NUMPY)
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def _run(package: Path, kind: Any, **more: Any) -> Result:
    client = Client("c", ordinal=2, count=5)
    return run(Job("j", client, package, kind, round=3, model=None if kind == "init" else MODEL, **more))[0]


@pytest.mark.parametrize(("name", "part", "rate"), [("client_fn", 2, 0.1), ("Client", 0, 0.0), ("instance", 0, 0.0)])
def test_a_numpy_client_runs_without_flower(tmp_path: Path, name: str, part: int, rate: float) -> None:
    package = _package(tmp_path, name)
    first = _run(package, "init")
    assert isinstance(first.update, bytes), first
    assert list(tensors.decode(first.update)[0]) == ["0", "1"]
    trained = _run(package, "train", config={"epochs": 2})
    assert isinstance(trained.update, bytes), trained
    assert (trained.examples, trained.metrics) == (10, {"part": part, "rate": rate, "server-round": 3, "epochs": 2})
    assert {key: value.tolist() for key, value in tensors.decode(trained.update)[0].items()} == {
        "0000/w": [1, 1],
        "0001/b": [1],
    }
    scored = _run(package, "validate")
    assert (scored.examples, scored.metrics) == (4, {"loss": 3.0, "accuracy": 0.5})


def test_what_flower_has_no_use_for_is_refused(tmp_path: Path) -> None:
    for name, words in (
        ("number", "number of client_app.py is an int"),
        ("missing", "missing of client_app.py is not"),
    ):
        with pytest.raises(PackageError, match=words):
            build(load(_package(tmp_path, name)), Client("c"))
    assert "which has not fit and evaluate" in _run(_package(tmp_path, "wrong"), "train").reason
    package = _package(tmp_path, "client_fn")
    (package / "pyproject.toml").write_text("[")
    with pytest.raises(PackageError, match="is not valid TOML"):
        build(load(package), Client("c"))


def test_a_flower_that_is_too_old_is_refused_with_the_release_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flwr", ModuleType("flwr"))
    package = load(_package(tmp_path, "instance"))
    monkeypatch.setattr(flower, "version", lambda _: "1.18.0")
    with pytest.raises(PackageError, match=r"flwr 1\.18\.0 is installed: FedMQ needs flwr >= 1\.24 \(pip install"):
        build(package, Client("c"))
    monkeypatch.setattr(flower, "version", lambda _: "1.24.0")
    build(package, Client("c"))


def test_names_go_without_positions_where_these_are_not_needed() -> None:
    one, two = np.zeros(1), np.ones(1)
    assert list(as_sent({"0001/b": one, "0000/a": two})) == ["a", "b"]
    assert list(as_sent({"0001/w": one, "0000/w": two})) == ["0000/w", "0001/w"]
    for found in ({"a": one, "b": two}, {"0": one, "1": two}, {"0000/a": one, "0001/b": two}):
        assert renamed(["0000/a", "0001/b"], found) == {"0000/a": one, "0001/b": two}


@pytest.fixture(scope="module", params=["1.24.0", "1.41.0"])
def flower_python(request: pytest.FixtureRequest) -> Path:
    """An interpreter with Flower, which does not go together with TensorFlow's requirements."""
    description = ROOT / ".cache" / f"flower-{request.param}.yaml"
    description.parent.mkdir(exist_ok=True)
    description.write_text(f"dependencies: [flwr=={request.param}, numpy, pyyaml, msgpack]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(ROOT / ".cache"))
        return environments.prepare(description) / "python"


def _in_flower(python: Path, folder: Path, jobs: list[tuple[str, str]]) -> list[list[Any]]:
    (folder / "apps.py").write_text(APPS)
    (folder / "pyproject.toml").write_text(PROJECT)
    paths = os.pathsep.join(str(ROOT / part) for part in ("services/client", "shared", "schemas"))
    done = subprocess.run(
        [str(python), "-c", RUNNER, str(folder), base64.b64encode(MODEL).decode(), json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": paths, "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    for answer in answers:
        update = base64.b64decode(answer[3])
        answer[3] = {key: array.tolist() for key, array in tensors.decode(update)[0].items()} if update else None
    return answers


@pytest.mark.timeout(600)
def test_a_client_app_runs_and_keeps_its_state(flower_python: Path, tmp_path: Path) -> None:
    jobs = [("app", "train"), ("app", "train"), ("app", "validate"), ("app", "init")]
    first, second, scored, init = _in_flower(flower_python, tmp_path, jobs)
    context = {"part": 2, "parts": 5, "rate": 0.5, "deep": 7, "round": 3}
    assert first == ["done", 10, {**context, "count": 1, "before": 0.0}, {"0000/w": [1, 1], "0001/b": [1]}, ""]
    # The second task finds what the first left in context.state.
    assert second[2] == {**context, "count": 2, "before": 4.0}
    assert scored[:3] == ["done", 4, {"loss": 6.0}]
    assert "give a model file with --seed FILE" in init[4]


@pytest.mark.timeout(600)
def test_a_client_app_of_a_client_fn_runs(flower_python: Path, tmp_path: Path) -> None:
    jobs = [("older", "init"), ("older", "train"), ("older", "validate"), ("client_fn", "train")]
    init, trained, scored, numpy = _in_flower(flower_python, tmp_path, jobs)
    assert init[3] == {"0": [0, 0], "1": [0]}, init
    assert trained == ["done", 10, {"part": 2, "round": 3}, {"0000/w": [1, 1], "0001/b": [1]}, ""]
    assert scored[:3] == ["done", 4, {"accuracy": 0.5, "loss": 6.0}]
    assert numpy == trained


@pytest.mark.timeout(600)
def test_what_an_app_does_not_do_is_no_validation_and_a_bad_answer_is_said(flower_python: Path, tmp_path: Path) -> None:
    jobs = [
        ("only_train", "validate"),
        ("older_fit_only", "validate"),
        ("fit_only_fn", "validate"),
        ("fit_only_fn", "init"),
        ("only_train", "train"),
    ]
    *abstained, init, bad = _in_flower(flower_python, tmp_path, jobs)
    assert [answer[0] for answer in abstained] == ["abstained"] * 3, abstained
    assert "has no get_parameters" in init[4]
    assert "answer has 0 array records and not one" in bad[4]
