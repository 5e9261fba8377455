"""Sandboxes whose trainers hang say who is awaited, where it is, since when and until when."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedmq.records.sqlite import SqliteRecords
from fedmq_cli import awaiting, package_trial
from fedmq_cli.app import app
from fedmq_cli.views import PlainView
from fedmq_client import Client
from fedmq_client.job.job import Job
from fedmq_client.pool.awaited import AwaitedJobs
from fedmq_sandbox import Interrupted, Sandbox
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from support.packages import write_package

pytestmark = pytest.mark.real

TRAINER = """
import time
from pathlib import Path
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(2, np.float32)}
"""
HOLDS_UP = (
    TRAINER
    + """
    def train(self, weights, task):
        ends = time.monotonic() + 40
        while self.client.name == "client2" and not Path(RELEASED).exists():
            time.sleep(0.01)
            assert time.monotonic() < ends
        return weights, 1, {}
"""
)
HOLDS_UP_VALIDATION = (
    TRAINER
    + """
    def train(self, weights, task):
        return {"w": weights["w"] + 1}, 1, {}

    def validate(self, weights, task):
        ends = time.monotonic() + 40
        while self.client.name == "client2" and weights["w"][0] > 0 and not Path(RELEASED).exists():
            time.sleep(0.01)
            assert time.monotonic() < ends
        return 1, {"loss": 1.0}
"""
)
HOLDS_UP_THE_FIRST_MODEL = """
import time
from pathlib import Path
import numpy as np

class Trainer:
    def __init__(self, client):
        pass

    def init(self):
        ends = time.monotonic() + 40
        while not Path(RELEASED).exists():
            time.sleep(0.01)
            assert time.monotonic() < ends
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        return weights, 1, {}
"""
HANGS = """
import threading
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        if self.client.name == "client2":
            threading.Event().wait()
        return weights, 1, {}
"""


def test_a_sandbox_says_whom_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list[str]()
    monkeypatch.setattr(PlainView, "remark", lambda _, line: lines.append(line))
    # On a busy machine the first looks find that client1 has not answered either.
    monkeypatch.setattr(awaiting.Quiet, "is_due", lambda *_: not any("1 of 2 clients" in line for line in lines))
    monkeypatch.setattr(awaiting, "PERIOD", 0.1)
    monkeypatch.chdir(tmp_path)
    package = write_package(tmp_path / "hangs", HANGS)
    words = ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--workers", "2"]
    done = CliRunner().invoke(app, [*words, "--timeout", "5", "--state-dir", "run"])
    assert re.match(r"round 1: 1 of 2 clients have not answered since .*: client2; the deadline is in ", lines[-1])
    assert [line for line in done.output.splitlines() if line.startswith("client2: ")] == [
        "client2: absent: no answer in 5 s; it was in trainer.py:14 in train; if trainers are only slow, raise `timeout`"
    ]


def test_a_resumed_sandbox_names_the_deadline_and_counts_no_time_in_which_it_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(awaiting, "PERIOD", 0.1)
    package, folder = write_package(tmp_path / "hangs", HANGS), tmp_path / "run"
    with Sandbox(package, clients=2, workers=2, state_dir=folder, rounds=1, timeout=9) as box:
        box.on_event = lambda _, event: box.interrupt() if event.name == "round.planned" else None
        with pytest.raises(Interrupted):
            box.run()
    records = SqliteRecords(folder / "records.db")
    for attempt in list(records.find(tables.ATTEMPTS)):
        key = keys.attempt_record(attempt["session"], attempt["round"], attempt["attempt"])
        records.update(tables.ATTEMPTS, key, {"created_at": attempt["created_at"] - 3600.0})
    records.close()
    words = ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--workers", "2"]
    done = CliRunner().invoke(app, [*words, "--timeout", "9", "--state-dir", str(folder)])
    [line] = [line for line in done.output.splitlines() if "have not answered since" in line]
    assert re.search(r"client2; the deadline is in [1-9](\.\d)? s$", line), done.output


def test_a_sandbox_without_workers_says_where_the_trainer_is_that_holds_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "PERIOD", 0.1)
    monkeypatch.chdir(tmp_path)
    released, lines = tmp_path / "released", list[str]()

    def remark(_: PlainView, line: str) -> None:
        if "client2's trainer is in" in line:  # on a busy machine there are lines on jobs before the first round
            lines.append(line)
            released.touch()

    monkeypatch.setattr(awaiting.Quiet, "is_due", lambda *_: not released.exists())
    monkeypatch.setattr(PlainView, "remark", remark)
    package = write_package(tmp_path / "holds-up", f"RELEASED = {str(released)!r}\n{HOLDS_UP}")
    words = ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--workers", "0"]
    done = CliRunner().invoke(app, [*words, "--state-dir", "run"])
    assert done.exit_code == 0, done.output
    assert re.search(r"client2's trainer is in trainer\.py:1[5-8] in train[,;] ", lines[0]), lines
    assert lines[0].startswith("round 1: ") and lines[0].endswith("leave --workers out")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_sandbox_says_who_has_not_validated_the_last_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setattr(awaiting, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(awaiting, "PERIOD", 0.1)
    monkeypatch.chdir(tmp_path)
    released, lines = tmp_path / "released", list[str]()

    def remark(_: PlainView, line: str) -> None:
        if "validation of model 1: " in line:
            lines.append(line)
            released.touch()

    monkeypatch.setattr(PlainView, "remark", remark)
    package = write_package(tmp_path / "validates", f"RELEASED = {str(released)!r}\n{HOLDS_UP_VALIDATION}")
    words = ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--workers", workers]
    done = CliRunner().invoke(app, [*words, "--state-dir", "run", "--set", "validation_timeout=60"])
    assert done.exit_code == 0, done.output
    assert " clients have not answered since " in lines[0] and "client2" in lines[0], lines
    assert ("in validate" if workers == "0" else "; the deadline is in ") in lines[0]


def test_a_sandbox_says_where_the_trainer_is_that_makes_no_first_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(awaiting, "PERIOD", 0.1)
    monkeypatch.chdir(tmp_path)
    released, lines = tmp_path / "released", list[str]()

    def remark(_: PlainView, line: str) -> None:
        lines.append(line)
        if " in init;" in line:
            released.touch()

    monkeypatch.setattr(awaiting.Quiet, "is_due", lambda *_: not released.exists())
    monkeypatch.setattr(PlainView, "remark", remark)
    package = write_package(tmp_path / "holds-up", f"RELEASED = {str(released)!r}\n{HOLDS_UP_THE_FIRST_MODEL}")
    words = ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--workers", "1"]
    done = CliRunner().invoke(app, [*words, "--state-dir", "run"])
    assert done.exit_code == 0, done.output
    line = next(line for line in lines if " in init;" in line)
    assert re.search(r"the first model is awaited since .*: init's trainer is in trainer\.py:1[3-5] in init; ", line), (
        line
    )
    assert line.endswith("; it is given up in 10 min")


def test_a_check_says_where_the_trainer_is_that_makes_no_first_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, lines = tmp_path / "released", list[str]()

    def say(line: str, **_: Any) -> None:
        lines.append(line)
        released.touch()

    monkeypatch.setattr(package_trial, "QUIET_SECONDS", 1.0)
    monkeypatch.setattr(package_trial, "say", say)
    package = write_package(tmp_path / "holds-up", f"RELEASED = {str(released)!r}\n{HOLDS_UP_THE_FIRST_MODEL}")
    done = CliRunner().invoke(app, ["check", str(package)])
    assert done.exit_code == 0, done.output
    assert lines[0].startswith("the first model is awaited since ") and lines[0].endswith("; it is given up in 10 min")


def test_a_sandbox_says_where_the_validation_of_the_last_model_hung(tmp_path: Path) -> None:
    package = write_package(tmp_path / "validates", f"RELEASED = {str(tmp_path / 'never')!r}\n{HOLDS_UP_VALIDATION}")
    words = ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--workers", "2", "--state-dir"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "run"), "--set", "validation_timeout=6"])
    assert done.exit_code == 0, done.output
    line = (
        r"^client2: absent: no answer in 6 s; it was in trainer\.py:\d+ in validate; if trainers are only slow, raise "
        r"`validation_timeout`$"
    )
    assert re.search(line, done.output, re.MULTILINE), done.output


def test_a_job_that_ends_just_when_its_place_is_looked_for_leaves_no_empty_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(package_trial, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(AwaitedJobs, "look", lambda jobs: [])
    with package_trial._worker() as run:
        run(Job("1", Client("c"), write_package(tmp_path, "class Trainer: pass"), "describe"))
    assert capsys.readouterr().err == ""
