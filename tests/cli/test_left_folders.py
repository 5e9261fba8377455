"""What verbs say of the folder of a sandbox that was killed, and that the command they give resumes its session."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import app
from fedmq_sdk import Alliance
from sandbox.commands import kill
from support.packages import write_package
from support.servers.served import PACKAGE, served

WORDS = "--clients 3 --rounds 4 --random-seed 4 --label site=north,south --set train.epochs=1 --workers 0"
FAILS = """
import numpy as np

class Trainer:
    def __init__(self, client):
        pass

    def init(self):
        return {"w": np.zeros(1)}

    def train(self, weights, task):
        raise ValueError("no data")
"""
LEFT = "its sandbox does not run now: this is what it recorded last"


def _fedmq(words: str) -> Result:
    return CliRunner().invoke(app, shlex.split(words))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    kill(folder, WORDS, "after the commit", 2)
    return folder


@pytest.mark.parametrize(
    "words", ["status", "session show", "sessions", "clients", "events last", "events last --follow", "events --follow"]
)
@pytest.mark.timeout(60)
def test_a_folder_whose_sandbox_was_killed_is_reported_as_left(killed: Path, words: str) -> None:
    shown = _fedmq(f"{words} --state-dir {killed}")
    assert shown.exit_code == 0, shown.output
    assert LEFT in shown.stdout
    assert "--follow" not in shown.stdout


@pytest.mark.timeout(60)
def test_the_open_round_of_a_left_folder_has_no_deadline_to_come(tmp_path: Path) -> None:
    kill(tmp_path, WORDS, "before the commit", 2)
    shown = _fedmq(f"session show --state-dir {tmp_path}").stdout
    assert re.search(r"^round 2 was open when its sandbox ended: \d of 3 clients had answered$", shown, re.MULTILINE), (
        shown
    )
    assert "is open" not in shown and "deadline" not in shown and " ago" not in shown


@pytest.mark.timeout(60)
def test_events_as_json_end_and_stay_json(killed: Path) -> None:
    shown = _fedmq(f"events last --follow --json --state-dir {killed}")
    assert shown.exit_code == 0
    assert all(line.startswith("{") for line in shown.stdout.splitlines())
    assert LEFT in shown.stderr


@pytest.mark.parametrize("words", ["status", "session show", "events last", "events last --follow"])
@pytest.mark.timeout(120)
def test_the_command_that_is_given_resumes_the_session(killed: Path, tmp_path: Path, words: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    shown = _fedmq(f"{words} --state-dir {folder}").stdout
    command = re.search(r"\nnext: fedmq (sandbox .*?)(   or: .*)?$", shown.rstrip())
    assert command is not None, shown
    assert f"--clients 3 --label site=north,south --state-dir {folder}" in command[1]
    done = subprocess.run(
        [sys.executable, "-m", "fedmq_cli.app", *shlex.split(command[1])], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "round 4 of 4: 3 of 3 accepted" in done.stdout
    assert LEFT not in _fedmq(f"session show --state-dir {folder}").stdout


@pytest.mark.timeout(60)
def test_a_folder_whose_sandbox_ended_before_its_session_began_gives_the_command_that_trains(
    killed: Path, tmp_path: Path
) -> None:
    shutil.copy(killed / "sandbox.json", tmp_path / "sandbox.json")
    SqliteRecords(tmp_path / "records.db").close()
    shown = _fedmq(f"status --state-dir {tmp_path}").stdout
    assert "no session has begun\n" in shown
    assert f"\nnext: fedmq sandbox --package {PACKAGE} --clients 3 --label site=north,south" in shown


@pytest.mark.timeout(60)
def test_a_folder_whose_session_failed_says_why_and_what_shows_more(tmp_path: Path) -> None:
    package, folder = write_package(tmp_path / "package", FAILS), tmp_path / "run"
    _fedmq(f"sandbox --package {package} --clients 2 --rounds 1 --workers 0 --set retries=0 --state-dir {folder}")
    for verb in ("status", "session show"):
        shown = _fedmq(f"{verb} --state-dir {folder}").stdout
        assert "failed: round 1 got 0 updates of 1" in shown and "train raised ValueError: no data" in shown
        assert "`fedmq sandbox` trains again in another --state-dir" in shown
        command = re.search(r"fedmq (clients --why \w+ --state-dir \S+)", shown)
        assert command is not None and "train raised ValueError" in _fedmq(command[1]).stdout
    assert (
        _fedmq(f"clients --state-dir {folder} --why").stdout
        == _fedmq(f"clients --why last --state-dir {folder}").stdout
    )
    assert _fedmq(f"clients --why --state-dir {folder}").exit_code == 0
    again = _fedmq(f"sandbox --package {PACKAGE} --clients 2 --rounds 1 --workers 0 --state-dir {folder}-2")
    assert again.exit_code == 0


def test_an_open_session_of_a_served_folder_is_resumed_by_a_sandbox_that_serves(tmp_path: Path) -> None:
    with served(tmp_path / "run") as running:
        Alliance(running.url).start(id="one", rounds=5000)
        shown = _fedmq(f"session show --state-dir {tmp_path / 'run'}").stdout
        assert LEFT not in shown and "fedmq sandbox" not in shown
    shown = _fedmq(f"session show --state-dir {tmp_path / 'run'}").stdout
    assert LEFT in shown
    assert f"next: fedmq sandbox --package {PACKAGE} --clients 3 --serve --state-dir {tmp_path / 'run'} " in shown


def test_events_of_an_ended_session_do_not_propose_to_follow_it(tmp_path: Path) -> None:
    with served(tmp_path / "run") as running:
        Alliance(running.url).start(id="one", rounds=1).wait(60)
        shown = _fedmq(f"events one --url {running.url}").stdout
    assert f"\nnext: fedmq session show one --url {running.url}\n" in shown
