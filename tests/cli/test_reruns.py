"""`fedmq sandbox` in the folder of a session that ended or was killed earlier. Each command that a message gives is run."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmq.errors import Refused
from fedmq_client.packages.package import load
from fedmq_sandbox import Sandbox
from fedmq_sdk import Alliance
from support.packages import write_package

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        if task.round >= FAILS_FROM:
            raise KeyError("epochs")
        weights["w"] += 1
        return weights, 1, {}
"""
NEVER = 1000
CRASHING = Path(__file__).parents[1] / "sandbox" / "crashing.py"
WORDS = "--clients 2 --workers 0 --set retries=0 --rounds 2"


def _package(folder: Path, fails_from: int) -> Path:
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return write_package(folder, TRAINER.replace("FAILS_FROM", str(fails_from)))


def _fedmq(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedmq_cli.app", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


def _failed_and_run_again(cwd: Path, fails_from: int) -> str:
    """Runs a faulty package, mends it, and returns what the same command prints to stderr then."""
    words = ("sandbox", "--package", "package", "--state-dir", "runs/x", *WORDS.split())
    _package(cwd / "package", fails_from)
    assert _fedmq(cwd, *words).returncode == 1
    _package(cwd / "package", NEVER)
    again = _fedmq(cwd, *words)
    assert again.returncode == 1
    assert "training" not in again.stdout, "nothing is trained"
    return again.stderr


def _commands(complaint: str) -> list[str]:
    return re.findall(r": (fedmq sandbox .*)$", complaint, re.MULTILINE)


def test_a_session_that_failed_earlier_is_reported_as_such_with_a_command_that_trains(tmp_path: Path) -> None:
    complaint = _failed_and_run_again(tmp_path, 1)
    assert re.search(r"session s\w+ of runs/x failed in an earlier run, and is not run again: .*epochs", complaint)
    (command,) = _commands(complaint)
    assert command.endswith("--state-dir runs/x-2")
    done = _fedmq(tmp_path, *shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    assert "round 2 of 2: 2 of 2 accepted" in done.stdout


@pytest.mark.parametrize(
    ("number", "rounds"), [(0, ["round 1 of 2", "round 2 of 2"]), (1, ["round 2 of 3", "round 3 of 3"])]
)
def test_one_that_has_a_model_may_also_go_on_from_it(tmp_path: Path, number: int, rounds: list[str]) -> None:
    commands = _commands(_failed_and_run_again(tmp_path, 2))
    assert [command.rpartition(" --")[2] for command in commands] == ["state-dir runs/x-2", "rounds 3"]
    done = _fedmq(tmp_path, *shlex.split(commands[number])[1:])
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^round \d of \d", done.stdout, re.MULTILINE) == rounds


def test_the_first_failure_is_no_earlier_one(tmp_path: Path) -> None:
    _package(tmp_path / "package", 1)
    done = _fedmq(tmp_path, "sandbox", "--package", "package", *WORDS.split())
    assert re.search(r"^fedmq: session s\w+ failed: ", done.stderr, re.MULTILINE)
    assert "earlier" not in done.stderr


def test_rounds_of_a_session_that_failed_earlier_raise_with_the_remedy(tmp_path: Path) -> None:
    policy = {"rounds": 2, "retries": 0}
    _failed_and_run_again(tmp_path, 1)
    with (
        Sandbox(tmp_path / "package", policy=policy, clients=2, workers=0, state_dir=tmp_path / "runs" / "x") as box,
        pytest.raises(Refused, match=r"failed in an earlier run, and is not run again: .* another state_dir"),
    ):
        list(box.rounds())
    with Sandbox(tmp_path / "package", policy=policy, clients=2, workers=0, state_dir=tmp_path / "other") as box:
        assert [each.number for each in box.rounds()] == [1, 2]


@pytest.mark.parametrize(("fails_from", "remedy"), [(1, "Give another --state-dir"), (2, "Give --seed ")])
def test_other_options_than_those_of_a_failed_session_are_refused_with_a_remedy_that_works(
    tmp_path: Path, fails_from: int, remedy: str
) -> None:
    _failed_and_run_again(tmp_path, fails_from)
    words = ["sandbox", "--package", "package", *WORDS.split(), "--set", "train.epochs=2"]
    refused = _fedmq(tmp_path, *words, "--state-dir", "runs/x")
    assert refused.returncode == 2
    assert remedy in refused.stderr
    seed = re.findall(r"(--seed) (\S+)", refused.stderr)
    done = _fedmq(tmp_path, *words, "--state-dir", "runs/y", *(seed[0] if seed else ()))
    assert done.returncode == 0, done.stderr


def _edit(package: Path) -> tuple[str, str]:
    """Makes a trainer that adds ten in each round. Returns the short hashes of the package before and after."""
    before = load(package).sha256
    shutil.rmtree(package / "__pycache__", ignore_errors=True)
    trainer = package / "trainer.py"
    trainer.write_text(trainer.read_text().replace("+= 1", "+= 10"))
    return before[:12], load(package).sha256[:12]


def _last(folder: Path) -> list[float]:
    """Returns the weights of the newest session's last model."""
    return [float(value) for value in Alliance(state_dir=folder).weights("last")["w"]]


def _reports(folder: Path) -> list[dict[str, Any]]:
    """Returns the recorded events that report a changed package."""
    return [dict(row) for row in Alliance(state_dir=folder).events() if row["name"] == "package.changed"]


def test_a_session_that_finished_earlier_is_reported_as_such_and_not_as_trained_now(tmp_path: Path) -> None:
    words = ("sandbox", "--package", "package", "--state-dir", "runs/x", *WORDS.split())
    _package(tmp_path / "package", NEVER)
    first = _fedmq(tmp_path, *words)
    again = _fedmq(tmp_path, *words)
    assert (again.returncode, again.stderr) == (0, "")
    assert re.match(
        r"session s\w+ of runs/x finished in an earlier run: nothing was trained now\n\nfinal", again.stdout
    )
    assert again.stdout.partition("\nfinal")[2] == first.stdout.partition("\nfinal")[2]
    assert "training package" not in again.stdout


def test_a_finished_session_of_a_changed_package_names_both_and_a_command_that_trains_the_new_one(
    tmp_path: Path,
) -> None:
    words = ("sandbox", "--package", "package", "--state-dir", "runs/x", *WORDS.split(), "--json", "-")
    _package(tmp_path / "package", NEVER)
    first = _fedmq(tmp_path, *words)
    before, now = _edit(tmp_path / "package")
    again = _fedmq(tmp_path, *words)
    assert again.returncode == 0
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert "finished in an earlier run: nothing was trained now" in again.stderr
    assert f"warning: the package has changed since ({before} then, {now} now)" in again.stderr
    (command,) = _commands(again.stderr)
    done = _fedmq(tmp_path, *shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    assert "changed" not in done.stderr
    assert (_last(tmp_path / "runs" / "x"), _last(tmp_path / "runs" / "x-2")) == ([2, 2], [20, 20])


def _killed(cwd: Path, *words: str) -> None:
    """Runs a sandbox that kills itself right after the commit of its first round."""
    command = [sys.executable, str(CRASHING), "after the commit", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_session_that_goes_on_with_a_changed_package_says_so_then_and_later(tmp_path: Path) -> None:
    words = ("sandbox", "--package", "package", "--state-dir", "runs/x", *WORDS.split(), "--json", "-")
    _package(tmp_path / "package", NEVER)
    _killed(tmp_path, *words)
    before, now = _edit(tmp_path / "package")
    again = _fedmq(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    text = (
        f"the package has changed since ({before} then, {now} now): after round 1 of this session clients use the changed "
        "one, so that its results come from both"
    )
    assert again.stderr.count(text) == 1
    assert _last(tmp_path / "runs" / "x") == [11, 11]
    [event] = _reports(tmp_path / "runs" / "x")
    assert (event["session"], event["round"], event["data"]["reason"]) == (document["session"], 1, text)
    (command,) = _commands(again.stderr)
    done = _fedmq(tmp_path, *shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    assert _last(tmp_path / "runs" / "x-2") == [20, 20]
    assert _reports(tmp_path / "runs" / "x-2") == []


def test_a_killed_session_that_goes_on_with_the_same_package_says_nothing_of_it(tmp_path: Path) -> None:
    words = ("sandbox", "--package", "package", "--state-dir", "runs/x", *WORDS.split())
    _package(tmp_path / "package", NEVER)
    _killed(tmp_path, *words)
    again = _fedmq(tmp_path, *words)
    assert (again.returncode, again.stderr) == (0, "")


def test_further_rounds_with_a_changed_package_are_reported_for_their_session(tmp_path: Path) -> None:
    words = ("sandbox", "--package", "package", "--state-dir", "runs/x", *WORDS.split())
    _package(tmp_path / "package", NEVER)
    assert _fedmq(tmp_path, *words).returncode == 0
    before, now = _edit(tmp_path / "package")
    more = _fedmq(tmp_path, *words, "--rounds", "3")
    assert more.returncode == 0, more.stderr
    assert f"({before} then, {now} now): after round 0 of this session clients use the changed one" in more.stderr
    [event] = _reports(tmp_path / "runs" / "x")
    assert event["session"] == Alliance(state_dir=tmp_path / "runs" / "x").sessions()[0]["session"]
