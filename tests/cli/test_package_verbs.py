"""`fedmq init` and `fedmq check`: packages that run from the start, and what is wrong with others."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fedmq.errors import ConfigError
from fedmq_cli.app import app
from fedmq_cli.package_trial import client_here, first_model, templates
from support.packages import write_package

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def init(self):
        return {{"w": np.zeros(3)}}
    def train(self, weights, task):
        {body}
        return weights, 5, {{}}
"""

runs_a_package = pytest.mark.real
"""The command starts a package as processes of its own."""


def _fedmq(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def _package(folder: Path, body: str) -> Path:
    return write_package(folder, TRAINER.format(body=body))


@pytest.mark.parametrize("framework", templates())
def test_a_new_package_passes_the_check_and_learns_in_a_sandbox(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = _fedmq("init", "mine", "--framework", framework)
    assert made.exit_code == 0, made.output
    assert "next: fedmq check mine/client" in made.stdout
    checked = _fedmq("check", "mine/client", "--json")
    assert checked.exit_code == 0, checked.output
    trial = json.loads(checked.stdout)
    assert trial["deterministic"] is True
    assert trial["norm"] > 0
    if framework in ("keras", "torch"):
        return  # slow to import in yet another process; their sandboxes are tested with the examples
    words = ["sandbox", "--package", "mine/client", "--clients", "2", "--rounds", "5", "--json", "-", "--workers", "1"]
    done = subprocess.run([sys.executable, "-m", "fedmq_cli.app", *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accuracy"] > 0.7


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    result = _fedmq("init", tmp_path)
    assert (result.exit_code, "exists already" in result.stderr) == (2, True)


def test_an_unknown_framework_names_the_known_ones(tmp_path: Path) -> None:
    result = _fedmq("init", tmp_path / "x", "--framework", "jax")
    assert (result.exit_code, "there are command, keras, numpy, sklearn, torch" in result.stderr) == (2, True)


@runs_a_package
def test_a_check_tells_examples_state_and_what_a_combiner_says(tmp_path: Path) -> None:
    package = _package(tmp_path, "weights['w'] += 2; task.state['n'] = np.ones(1)")
    result = _fedmq("check", package)
    assert result.exit_code == 0, result.output
    assert "1 tensors" in result.stdout
    assert "train     examples 5" in result.stdout
    assert "state     1 arrays" in result.stdout
    assert "validate  the trainer does not" in result.stdout
    assert "combiner  accepts the update, its norm is 3.4641" in result.stdout


VALIDATES = "    def validate(self, weights, task):\n        return 1, {'a': 1.0}\n"
STATES = "    test_set = True\n"


@runs_a_package
@pytest.mark.parametrize(
    ("more", "test_set", "line"),
    [
        (VALIDATES + STATES, True, "evaluator scores each model: the package states a test set"),
        (
            VALIDATES,
            False,
            "evaluator has no score: the package states no test set; if validate scores one",
        ),
        (STATES, True, "evaluator has no score: the package states a test set, and its trainer does not validate"),
    ],
    ids=["stated", "not stated", "stated without validate"],
)
def test_a_check_says_what_an_evaluator_of_the_package_does(
    tmp_path: Path, more: str, test_set: bool, line: str
) -> None:
    package = _package(tmp_path, "pass")
    with (package / "trainer.py").open("a") as file:
        file.write(more)
    shown = _fedmq("check", package)
    assert shown.exit_code == 0, shown.output
    assert line in shown.stdout
    trial = json.loads(_fedmq("check", package, "--json").stdout)
    assert trial["test_set"] is test_set
    assert (trial["evaluator"] == "") is line.startswith("evaluator scores")


@runs_a_package
def test_a_check_says_that_a_test_set_is_scored_although_validate_scores_nothing_else(tmp_path: Path) -> None:
    package = _package(tmp_path, "pass")
    with (package / "trainer.py").open("a") as file:
        file.write(STATES)
        file.write(
            "    def validate(self, weights, task):\n        return (1, {}) if task.client.evaluator else None\n"
        )
    shown = _fedmq("check", package)
    assert "evaluator scores each model: the package states a test set" in shown.stdout, shown.output
    assert "validate  gives no score here: it returned None or used no examples" in shown.stdout


@runs_a_package
def test_a_check_promises_no_scores_of_a_validate_that_raises(tmp_path: Path) -> None:
    package = _package(tmp_path, "pass")
    with (package / "trainer.py").open("a") as file:
        file.write(STATES + "    def validate(self, weights, task):\n        raise ValueError('no labels')\n")
    shown = _fedmq("check", package)
    assert "validate  fails" in shown.stdout, shown.output
    assert "evaluator has no score: the package states a test set, and its validate fails" in shown.stdout
    assert json.loads(_fedmq("check", package, "--json").stdout)["test_set"] is True


@runs_a_package
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise ValueError('no data')", "the package failed: train raised ValueError: no data"),
        ("weights['w'] += np.nan", "a combiner would reject the update"),
        ("weights['v'] = 1", "have v, which the model has not"),
        ("return None", "the package abstained"),
    ],
)
def test_a_check_fails_with_what_is_wrong(tmp_path: Path, body: str, problem: str) -> None:
    result = _fedmq("check", _package(tmp_path, body))
    assert result.exit_code == 1
    assert problem in result.stderr


@runs_a_package
def test_a_package_that_lacks_its_class_is_told_so_without_our_own_lines(tmp_path: Path) -> None:
    (tmp_path / "fedn.yaml").write_text("trainer: trainer.py:Trainr\n")
    (tmp_path / "trainer.py").write_text(TRAINER.format(body="..."))
    result = _fedmq("check", tmp_path)
    assert (result.exit_code, result.stderr) == (
        2,
        "fedmq: trainer.py has no class Trainr, which fedn.yaml names: it has Trainer\n",
    )


@runs_a_package
def test_a_trainer_that_never_does_the_same_twice_is_found_out(tmp_path: Path) -> None:
    result = _fedmq("check", _package(tmp_path, "import os; weights['w'] += int.from_bytes(os.urandom(3), 'big')"))
    assert result.exit_code == 0
    assert "other bytes each time" in result.stdout


@runs_a_package
@pytest.mark.parametrize("setting", ["train.steps=2", "steps=2"])
def test_a_check_takes_the_keys_of_the_trainer_as_a_policy_names_them(setting: str, tmp_path: Path) -> None:
    package = _package(tmp_path, "weights['w'] += task.config['steps']")
    checked = _fedmq("check", package, "--set", setting, "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["norm"] == pytest.approx(12**0.5)


@runs_a_package
def test_a_check_and_a_seed_run_the_package_as_a_client_of_this_machine_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fedn.yaml").write_text(
        "format: safetensors\npython_env: env.yaml\n"
        f"entry_points: {{build: {{command: {sys.executable} -m build_is_here}}, train: {{command: 'true'}}}}\n"
    )
    (tmp_path / "env.yaml").write_text("name: none\ndependencies: [a-package-that-is-nowhere]\n")
    monkeypatch.setenv("FEDN_PACKAGE_ENV", "false")
    monkeypatch.setenv("FEDN_DATA_PATH", str(tmp_path / "data"))
    client = client_here("check", data=None, count=3)
    assert (client.python_env, client.data, client.count) == (False, tmp_path / "data", 3)
    with pytest.raises(ConfigError, match="No module named build_is_here"):
        first_model(tmp_path, 0)


@runs_a_package
def test_a_check_shows_what_the_trainer_prints_once(tmp_path: Path) -> None:
    package = _package(tmp_path, 'print("epoch", 1); raise ValueError("no data")')
    done = subprocess.run(
        [sys.executable, "-m", "fedmq_cli.app", "check", str(package), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("epoch 1\n") == 1
    assert json.loads(done.stdout)["traceback"].endswith("ValueError: no data\n")


@runs_a_package
def test_a_check_trains_after_a_failed_validation_and_fails_with_its_traceback(tmp_path: Path) -> None:
    package = _package(tmp_path, "task.state['n'] = object()")
    with (package / "trainer.py").open("a") as file:
        file.write("    def validate(self, weights, task):\n        return 1, {'a': 1 / 0}\n")
    result = _fedmq("check", package)
    assert result.exit_code == 1
    assert "validate  fails; an alliance trains all the same" in result.stdout
    assert "train     examples 5" in result.stdout and "combiner  accepts the update" in result.stdout
    assert "note      task.state['n'] is an object and is not kept" in result.stdout
    assert "validate raised ZeroDivisionError" in result.stderr and "in validate" in result.stderr


def _with_init(folder: Path, init: str, roles: str = "") -> Path:
    package = _package(folder, "pass")
    trainer = package / "trainer.py"
    trainer.write_text(trainer.read_text().replace('return {"w": np.zeros(3)}', f"return {init}") + roles)
    return package


@runs_a_package
def test_a_check_lists_ten_tensors_with_shape_dtype_and_role_or_all_of_them(tmp_path: Path) -> None:
    init = '{f"layer{number}": np.zeros((2, number), "f4") for number in range(12)}'
    package = _with_init(tmp_path, init)
    few = _fedmq("check", package).stdout.splitlines()
    assert "tensor    layer1   trainable  float32 [2, 1]" in few and "roles     12 trainable" in few
    assert len([line for line in few if line.startswith("tensor  ")]) == 11
    assert "tensor    and 2 more, which --tensors lists" in few
    every = _fedmq("check", package, "--tensors").stdout.splitlines()
    assert len([line for line in every if line.startswith("tensor  ")]) == 12
    listed = json.loads(_fedmq("check", package, "--json").stdout)["tensor_list"]
    assert listed[1] == {"name": "layer1", "shape": [2, 1], "dtype": "float32", "role": "trainable"}


@runs_a_package
@pytest.mark.parametrize("name", ["1.running_var", "0003/bn.running_mean", "moving_variance", "a/num_batches_tracked"])
def test_a_check_warns_of_a_trainable_tensor_that_is_named_like_a_statistic(tmp_path: Path, name: str) -> None:
    init = f'{{"w": np.zeros(3), "{name}": np.zeros(3)}}'
    assert f"note      {name} looks like a statistic" in _fedmq("check", _with_init(tmp_path, init)).stdout
    stated = _with_init(tmp_path, init, f'    roles = {{"{name}": "statistic"}}\n')
    assert "looks like" not in _fedmq("check", stated).stdout


@runs_a_package
def test_a_check_refuses_bytes_without_a_role_and_says_what_opaque_ones_need(tmp_path: Path) -> None:
    init = '{"tree": np.zeros(99, np.uint8)}'
    refused = _fedmq("check", _with_init(tmp_path, init))
    assert refused.exit_code != 0
    assert "tensor 'tree' holds integers, uint8 [99], and has no role: state one" in refused.stderr
    accepted = _fedmq("check", _with_init(tmp_path, init, '    roles = {"tree": "opaque"}\n'))
    assert accepted.exit_code == 0, accepted.output
    assert "note      tensor 'tree' is opaque" in accepted.stdout and "clients_requested = 1" in accepted.stdout


FLOWER = """
class Client:
    def fit(self, parameters, config):
        return [value + 1 for value in parameters], 10, {}
    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 4, {}
"""


@runs_a_package
def test_the_next_line_after_a_check_of_a_model_trains_a_flower_app_that_makes_none(tmp_path: Path) -> None:
    package = tmp_path / "app"
    package.mkdir()
    (package / "fedn.yaml").write_text("trainer: flower:client_app.py:Client\n")
    (package / "client_app.py").write_text(FLOWER)
    np.savez(tmp_path / "first model.npz", np.zeros(2, np.float32))
    refused = _fedmq("check", package)
    assert refused.exit_code == 2
    assert "--model FILE" in refused.stderr
    checked = _fedmq("check", package, "--model", tmp_path / "first model.npz")
    assert checked.exit_code == 0, checked.output
    following = shlex.split(checked.stdout.rpartition("next: ")[2])
    assert following[:2] == ["fedmq", "sandbox"]
    command = [sys.executable, "-m", "fedmq_cli.app", *following[1:], "--json", "-", "--rounds", "1", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["loss"] == 2.0
