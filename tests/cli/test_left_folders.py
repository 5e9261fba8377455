"""What verbs say of the folder of a sandbox that was killed, and that the command they give resumes its session."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from fedmq_sdk import Alliance
from sandbox.commands import kill
from support.servers.served import PACKAGE, served

WORDS = "--clients 3 --rounds 4 --random-seed 4 --label site=north,south --set train.epochs=1 --workers 0"
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
