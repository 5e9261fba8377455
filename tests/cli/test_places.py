"""Every verb that reads gives the same for a served alliance, for the folder of a running one, and for an ended one's."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from fedmq_sandbox import Sandbox
from fedmq_sdk import Alliance
from support.servers.served import PACKAGE, served

SEED = "seed-5d1e84adb228"
SESSIONS = ("one", "two")
READING = [
    "status",
    "sessions",
    "session show two",
    "session show one --toml",
    "session show two --csv",
    "session compare one two",
    "models",
    "models --session one",
    "model get best --session one --out here.npz",
    "model get last --out here.safetensors",
    "model verify",
    "clients",
    "clients --why two",
    "events two --limit 50",
    "events one --follow",
]
WITHOUT_JSON = ("session show one --toml", "session show two --csv")
COMMANDS = READING + [f"{verb} --json" for verb in READING if verb not in WITHOUT_JSON]
MOVING = re.compile(r"[\d.]+ (s|min) ago|\"(last_seen|waits_at|seen_at)\": [\d.]+")


@dataclass(frozen=True, slots=True)
class Outputs:
    """What each command has printed at each place, and the folder of the sandbox, which has ended.

    `before` and `after`: sizes and times of its files when the sandbox had ended, and after all commands.
    """

    at: dict[tuple[str, str], Result]
    folder: Path
    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    status = {each: each.stat() for each in (folder, *folder.rglob("*"))}
    return {str(each.relative_to(folder)): (found.st_size, found.st_mtime_ns) for each, found in status.items()}


def fedmq(words: str) -> Result:
    return CliRunner().invoke(app, shlex.split(words))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    folder = tmp_path_factory.mktemp("alliance")
    found: dict[tuple[str, str], Result] = {}

    def run(place: str, option: str) -> None:
        found.update({(place, words): fedmq(f"{words} {option}") for words in COMMANDS})

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        with served(folder) as running:
            for name, rounds in zip(SESSIONS, (3, 2), strict=True):
                alliance = Alliance(running.url)
                alliance.start(
                    id=name, rounds=rounds, seed=SEED, random_seed=5, train={"learning_rate": 1.0 / rounds}
                ).wait(60)
            run("served", f"--url {running.url}")
            run("running", f"--state-dir {folder}")
        before = _state(folder)
        run("ended", f"--state-dir {folder}")
        yield Outputs(found, folder, before, _state(folder))


def _without_place(text: str, folder: Path) -> str:
    """Returns an output without its next commands, without what names the place, and without what time alone changes."""
    text = text.partition("\nnext: ")[0]
    text = text.replace("its sandbox does not run now: this is what it recorded last\n", "")
    text = re.sub(r"http://127.0.0.1:\d+", "PLACE", text).replace(folder.as_uri(), "PLACE")
    return MOVING.sub("MOVING", text)


@pytest.mark.parametrize("place", ["running", "ended"])
@pytest.mark.parametrize("words", COMMANDS)
def test_a_folder_gives_what_its_alliance_gives(outputs: Outputs, place: str, words: str) -> None:
    expected, found = outputs.at["served", words], outputs.at[place, words]
    assert (expected.exit_code, found.exit_code) == (0, 0), found.output
    assert _without_place(found.stdout, outputs.folder) == _without_place(expected.stdout, outputs.folder)
    assert expected.stdout


def test_the_status_of_a_folder_says_whether_its_sandbox_runs(outputs: Outputs) -> None:
    words = "its sandbox does not run now"
    assert [words in outputs.at[place, "status"].stdout for place in ("served", "running", "ended")] == [
        False,
        False,
        True,
    ]


def test_an_ended_folder_is_left_as_it_was(outputs: Outputs) -> None:
    assert outputs.before == outputs.after
    assert "records.db-wal" not in outputs.after


@pytest.mark.parametrize("words", [words for words in READING if words not in WITHOUT_JSON])
def test_the_next_commands_at_a_folder_lead_on_in_the_folder(
    outputs: Outputs, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = outputs.at["ended", words].stdout.partition("\nnext: ")[2].strip().split("   or: ")
    for command in filter(None, commands):
        assert f"--state-dir {outputs.folder}" in command
        followed = fedmq(command.removeprefix("fedmq "))
        assert followed.exit_code == 0, (command, followed.output)


def test_the_next_commands_at_an_address_name_the_address(outputs: Outputs) -> None:
    assert re.search(r"\nnext: fedmq session show two --url http://127\S+\n", outputs.at["served", "sessions"].stdout)


@pytest.mark.parametrize("words", ["start --rounds 2", "start --follow", "stop", "seed model.npz"])
def test_a_verb_that_changes_something_is_refused_with_the_command_that_serves_the_folder(
    outputs: Outputs, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("model.npz", w=np.zeros(3))
    before = _state(outputs.folder)
    refused = fedmq(f"{words} --state-dir {outputs.folder}")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"`fedmq sandbox --package DIR --clients 3 --state-dir {outputs.folder} --serve`" in refused.stderr
    assert _state(outputs.folder) == before


def test_the_command_that_serves_a_folder_does_so(outputs: Outputs, tmp_path: Path) -> None:
    shutil.copytree(outputs.folder, tmp_path / "run")
    refusal = fedmq(f"stop --state-dir {tmp_path / 'run'}").stderr
    words = shlex.split(refusal.partition("`fedmq ")[2].partition("`")[0].replace("DIR", str(PACKAGE), 1))
    command = [sys.executable, "-m", "fedmq_cli.app", *words, "--port", "0", "--workers", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition(" at ")[2].partition(" ")[0]
            assert Alliance(url).start(rounds=1).wait(60)["state"] == "finished"
        finally:
            process.kill()
    assert [row["rounds_committed"] for row in Alliance(state_dir=tmp_path / "run").sessions()] == [1, 2, 3]


def test_runs_in_two_folders_are_compared_by_the_names_of_their_folders(outputs: Outputs, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with Sandbox(PACKAGE, clients=3, workers=0, rounds=3, state_dir=other, random_seed=9) as box:
        box.run()
    compared = json.loads(fedmq(f"session compare {outputs.folder}:one {other} --json").stdout)
    left = f"{outputs.folder.name}:one"
    assert {"key": "random_seed", "one": 5, "other": 9} in compared["policy"]
    assert [row["round"] for row in compared["rounds"]] == [0, 1, 2, 3]
    assert compared["rounds"][3]["test/mse other"] == _last_mse(other, box.session)
    assert (
        compared["rounds"][3][f"test/mse {left}"]
        == Alliance(state_dir=outputs.folder).session("one").metrics()[3]["test/mse"]
    )
    shown = fedmq(f"session compare {outputs.folder} {other}")
    assert f"next: fedmq session show two --state-dir {outputs.folder}   or: fedmq session show s" in shown.stdout
    assert shown.stdout.rstrip().endswith(f"--state-dir {other}")


def _last_mse(folder: Path, session: str) -> float:
    return float(Alliance(state_dir=folder).session(session).metrics()[-1]["test/mse"])


def test_rounds_and_metrics_are_written_as_csv(outputs: Outputs) -> None:
    rows = list(csv.DictReader(outputs.at["ended", "session show two --csv"].stdout.splitlines()))
    expected = Alliance(state_dir=outputs.folder).session("two").metrics()
    assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert [row["accepted"] for row in rows] == ["", "3", "3"]
    assert [float(row["test/mse"]) for row in rows] == [row["test/mse"] for row in expected]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("sessions --state-dir none", "none is no folder of a sandbox (it has no records.db)"),
        ("session compare one ./none", "none is no folder of a sandbox (it has no records.db)"),
        ("session compare last ./none:one", "none is no folder of a sandbox (it has no records.db)"),
        ("session compare none last", "none is no folder of a sandbox, and there is no session 'none'"),
        ("models --state-dir none --url http://127.0.0.1:1", "not both"),
    ],
)
def test_a_wrong_place_is_one_complaint(outputs: Outputs, words: str, complaint: str) -> None:
    refused = fedmq(words if "--state-dir" in words else f"{words} --state-dir {outputs.folder}")
    assert refused.exit_code == 2
    assert complaint in refused.stderr


def test_a_session_that_runs_is_followed_in_its_folder_to_its_end(tmp_path: Path) -> None:
    with served(tmp_path / "run") as running:
        session = Alliance(running.url).start(rounds=15)
        session.refresh()
        followed = list(Alliance(state_dir=tmp_path / "run").session(session.id).follow())
        expected = list(session.follow())
    assert followed[-1]["name"] == "session.finished"
    assert {event["id"] for event in followed} == {event["id"] for event in expected}
    assert len(followed) == len(expected)
