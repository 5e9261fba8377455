"""`fedmq sandbox`, run as a user runs it."""

import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from support.packages import write_package

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "examples" / "numpy_regression" / "client"
FIELDS = {
    "round",
    "accuracy",
    "metrics",
    "training",
    "values",
    "asked",
    "seconds",
    "accepted",
    "rejected",
    "discarded",
    "abstained",
    "failed",
    "absent",
    "session",
    "model",
}

PICKY = """
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        if self.client.ordinal == 0:
            raise ValueError("no data today")
        weights["w"] += 1
        return weights, 1, {}
"""

LOGGING = """
import os

import numpy as np

LEVEL = float(os.environ.get("TF_CPP_MIN_LOG_LEVEL", 0))  # as TensorFlow reads it where this file imports it

class Trainer:
    def __init__(self, client): ...

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        return weights, 1, {"level": LEVEL}
"""


def _command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "fedmq_cli.app", "sandbox", *map(str, words)]


def _run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*words), capture_output=True, text=True, cwd=cwd, timeout=60)


def _result(folder: Path, *words: str | Path) -> dict[str, Any]:
    done = _run("--package", PACKAGE, "--workers", "0", "--random-seed", "3", "--json", "-", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def picky(tmp_path: Path) -> Path:
    return write_package(tmp_path / "picky", PICKY)


def test_the_result_names_a_model_file_with_its_hash_and_tells_every_round(tmp_path: Path) -> None:
    result = _result(tmp_path, "--rounds", "3", "--state-dir", "state")
    data = Path(result["path"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == result["sha256"]
    assert result["final_model"] in result["path"]
    assert [each["round"] for each in result["rounds"]] == [1, 2, 3]
    assert all(each.keys() == FIELDS and each["accepted"] == 5 for each in result["rounds"])
    assert result["accuracy"] is None
    assert result["metrics"]["test/mse"] == result["rounds"][2]["metrics"]["test/mse"]
    assert result["training"] == result["rounds"][2]["training"] != {}
    assert result["rounds"][2]["metrics"]["test/mse"] < result["rounds"][0]["metrics"]["test/mse"]


def test_plain_lines_tell_rounds_scores_the_model_and_the_next_command(tmp_path: Path) -> None:
    done = _run("--package", PACKAGE, "--workers", "0", "--rounds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "round 2 of 2: 5 of 5 accepted" in done.stdout
    assert re.search(r"^round 2 of 2: 5 of 5 accepted, .*s, training: mse \d", done.stdout, re.MULTILINE)
    assert "model 2: mse" in done.stdout
    for number in range(3):
        assert re.search(rf"^model {number}: mse [\d.]+ \(own data of 5 clients\)$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^  mse [\d.]+ \(clients' own data\)\n  test/mse [\d.]+\n  training/mse [\d.]+$", done.stdout, re.MULTILINE
    )
    assert "no test set" not in done.stdout
    assert "final model" in done.stdout
    assert "\nnext: python " in done.stdout
    assert "evaluate.py fedmq-runs/" in done.stdout
    assert done.stderr == ""


def test_a_package_without_a_test_set_is_reported_once_before_the_first_round(tmp_path: Path, picky: Path) -> None:
    done = _run("--package", picky, "--workers", "0", "--rounds", "3", cwd=tmp_path)
    lines = done.stdout.splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith("evaluator: the package states no test")]
    assert found == [1] and "set `test_set = True` in the trainer" in lines[1]
    assert "(test)" not in done.stdout


def test_interrupted_it_leaves_cleanly_and_the_command_it_prints_ends_with_the_same_model(tmp_path: Path) -> None:
    words = ("--rounds", "60", "--combiners", "3", "--state-dir", "state")
    whole = _result(tmp_path, "--rounds", "60", "--state-dir", "whole")
    command = _command("--package", PACKAGE, "--workers", "0", "--random-seed", "3", *words)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert any("round 2 of 60" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "to go on: fedmq sandbox" in complaint and "--state-dir state" in complaint
    assert _result(tmp_path, *words)["sha256"] == whole["sha256"]


def test_a_finished_session_is_reported_again_and_not_trained_again(tmp_path: Path) -> None:
    first = _result(tmp_path, "--rounds", "2", "--state-dir", "state")
    assert _result(tmp_path, "--rounds", "2", "--state-dir", "state") == first


def test_a_state_folder_with_other_options_is_refused(tmp_path: Path) -> None:
    _result(tmp_path, "--rounds", "2", "--state-dir", "state")
    done = _run("--package", PACKAGE, "--rounds", "1", "--state-dir", "state", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds a session with other options: --rounds differs: 2 there, 1 here" in done.stderr


def test_more_rounds_go_on_from_the_last_model_and_say_so(tmp_path: Path) -> None:
    first = _result(tmp_path, "--rounds", "2", "--state-dir", "state")
    words = ("--package", PACKAGE, "--workers", "0", "--state-dir", "state", "--rounds", "5", "--json", "more.json")
    done = _run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"3 more rounds, in a session of their own from the last model {first['final_model']}" in done.stdout
    assert (
        "\n  `task.round` begins at 1 again; what clients keep begins anew without --set personal=continue\n"
        in done.stdout
    )
    assert "optimizer" not in done.stdout, "it keeps nothing"
    named = re.findall(r"^(?:round|model) (\d+)(?: of (\d+))?: ", done.stdout, re.MULTILINE)
    assert {int(number) for number, total in named if total} == {3, 4, 5}, "as in the result"
    assert {total for _, total in named if total} == {"5"}
    assert {int(number) for number, total in named if not total} == {2, 3, 4, 5}, "the first one is the last of before"
    result = json.loads((tmp_path / "more.json").read_text())
    assert [each["round"] for each in result["rounds"]] == [1, 2, 3, 4, 5]
    assert result["rounds"][:2] == first["rounds"]
    assert {each["session"] for each in result["rounds"][2:]} == {result["session"]} != {first["session"]}
    [best] = [each for each in result["rounds"] if each["model"] == result["best"]["model"]]
    assert best["session"] == result["session"]
    assert result["best"]["round"] == best["round"] > 2


def test_a_metric_that_no_model_has_is_named_in_place_of_the_best_model(tmp_path: Path) -> None:
    words = ("--package", PACKAGE, "--workers", "0", "--rounds", "1", "--set", "select.metric=test/mze")
    done = _run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "no best model: no model has select.metric 'test/mze'; did you mean test/mse? there are mse, test/mse"
        in done.stdout
    )


def test_the_result_names_best_start_policy_and_versions(tmp_path: Path) -> None:
    result = _result(
        tmp_path, "--rounds", "3", "--state-dir", "state", "--set", "select.metric=test/mse", "--set", "select.mode=max"
    )
    first = result["rounds"][0]
    assert result["best"] == {
        "model": first["model"],
        "round": 1,
        "metric": "test/mse",
        "mode": "max",
        "value": first["metrics"]["test/mse"],
    }
    assert result["start"]["metrics"]["test/mse"] > first["metrics"]["test/mse"]
    assert result["policy"]["select"]["mode"] == "max"
    assert result["versions"].keys() == {"fedmq", "python", "numpy"}


def test_out_writes_the_final_and_the_best_model_in_the_format_of_its_ending(tmp_path: Path) -> None:
    select = ("--set", "select.metric=test/mse", "--set", "select.mode=max")
    words = ("--package", PACKAGE, "--workers", "0", "--rounds", "2", *select, "--state-dir", "state")
    done = _run(*words, "--out", "last.npz", "--out", "best:best.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^best model s\S+: round 1, max test/mse [\d.]+ \(of rounds 1 to 2\)$", done.stdout, re.MULTILINE)
    [last_name] = (path.name for path in (tmp_path / "state/blobs/models").glob("*-0002-*"))
    [best_name] = (path.name for path in (tmp_path / "state/blobs/models").glob("*-0001-*"))
    assert f"\nwritten last.npz: the last model, {last_name} of round 2\n" in done.stdout
    assert f"\nwritten best.safetensors: the best model, {best_name} of round 1\n" in done.stdout
    with np.load(tmp_path / "last.npz") as last:
        best = load_file(tmp_path / "best.safetensors")
        assert set(last.files) == set(best)
        assert any((last[name] != best[name]).any() for name in best)
    seeded = _result(tmp_path, "--rounds", "1", "--seed", "state")
    again = _result(tmp_path, "--rounds", "1", "--seed", "best.safetensors")
    assert again["sha256"] == seeded["sha256"], "the best model of the run is the file"
    assert "no model is written as .onnx" in _run(*words, "--out", "m.onnx", cwd=tmp_path).stderr


def test_a_file_that_needs_a_network_is_refused_before_the_first_round(tmp_path: Path, picky: Path) -> None:
    done = _run("--package", picky, "--workers", "0", "--out", "x.keras", cwd=tmp_path)
    assert done.returncode == 2
    assert "has no model(): another format needs none" in done.stderr
    assert "round 1" not in done.stdout and not (tmp_path / "fedmq-runs").exists()


def test_the_result_is_printed_though_a_file_can_not_be_written(tmp_path: Path) -> None:
    words = ("--package", PACKAGE, "--workers", "0", "--rounds", "1", "--set", "select.metric=test/mze")
    done = _run(*words, "--out", "best:x.npz", "--json", "result.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "\nfinal model s" in done.stdout and "  test/mse " in done.stdout
    assert json.loads((tmp_path / "result.json").read_text())["state"] == "finished"


def test_a_folder_of_out_that_is_not_there_is_refused(tmp_path: Path) -> None:
    words = ("--package", PACKAGE, "--workers", "0", "--clients", "2", "--rounds", "1", "--out", "models/")
    done = _run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no folder models: make it first" in done.stderr
    (tmp_path / "models").mkdir()
    assert _run(*words, cwd=tmp_path).returncode == 0, "the advice"
    assert [each.name for each in (tmp_path / "models").iterdir()] == ["last.safetensors"]


def test_a_failed_session_ends_with_its_reason_and_exit_code_1(tmp_path: Path, picky: Path) -> None:
    settings = ("--set", "clients_required=2", "--set", "retries=0", "--clients", "2", "--workers", "0")
    done = _run("--package", picky, *settings, "--json", "result.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "round 1 got 1 updates of 2 in 1 attempt" in done.stderr
    assert "client1: failed: train raised ValueError: no data today" in done.stdout
    assert json.loads((tmp_path / "result.json").read_text())["state"] == "failed"


def test_the_command_after_a_package_without_evaluation_writes_the_model_for_numpy(tmp_path: Path, picky: Path) -> None:
    words = ("--workers", "0", "--clients", "2", "--rounds", "1", "--state-dir", "a run")
    done = _run("--package", picky, *words, cwd=tmp_path)
    convert, show = done.stdout.rpartition("\nnext: ")[2].strip().split("   or: ")
    assert convert.startswith("fedmq model convert ") and convert.endswith(" --out model.npz")
    assert show == "fedmq session show --state-dir 'a run'"
    for advice in (convert, show):
        command = [sys.executable, "-m", "fedmq_cli.app", *shlex.split(advice)[1:]]
        followed = subprocess.run(command, check=True, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    assert ": finished\n" in followed.stdout
    with np.load(tmp_path / "model.npz") as model:
        assert {name: model[name].tolist() for name in model.files} == {"w": [1, 1]}


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(("given", "expected"), [(None, 3.0), ("1", 1.0)])
def test_tensorflow_logs_errors_only_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, given: str | None, expected: float
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", given)
    package = write_package(tmp_path / "logging", LOGGING)
    words = ("--workers", workers, "--clients", "1", "--rounds", "1", "--json", "result.json")
    done = _run("--package", package, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["training"] == {"level": expected}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--package", "nowhere"), "there is no folder"),
        (("--package", PACKAGE, "--set", "round=3"), "did you mean 'rounds'?"),
        (("--package", PACKAGE, "--fraction", "2"), "fraction: must be less than or equal to 1"),
    ],
)
def test_a_wrong_option_is_one_clear_complaint_and_leaves_nothing_behind(
    tmp_path: Path, words: tuple[str | Path, ...], complaint: str
) -> None:
    done = _run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
