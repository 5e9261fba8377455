"""A mean from which some client's value is missing states it, wherever it is shown."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmq_cli.app import app
from fedmq_sdk import Alliance
from support.packages import write_package

TRAINER = """
import numpy as np

class Trainer:
    '''The second client's `mse` is NaN, in training and in validation.'''
    def __init__(self, client):
        self.mse = float("nan") if client.ordinal == 1 else 2.0

    def init(self):
        return {"w": np.zeros(1)}

    def train(self, weights, task):
        return {"w": weights["w"] + 1}, 10, {"mse": self.mse}

    def validate(self, weights, task):
        return 10, {"mae": 1.5, "mse": self.mse}
"""


def _fedmq(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of two rounds with three clients, and what its terminal showed."""
    folder = tmp_path_factory.mktemp("counts")
    package = write_package(folder / "package", TRAINER)
    words = ("--clients", 3, "--workers", 0, "--rounds", 2, "--state-dir", folder / "run")
    return folder / "run", _fedmq("sandbox", "--package", package, *words)


def test_the_terminal_names_the_metric_and_counts_the_values(run: tuple[Path, str]) -> None:
    shown = run[1]
    for step in ("train", "validate"):
        assert shown.count(f"client2: metric 'mse' of {step} is nan and is in no mean\n") == 1
    for number in range(3):
        assert f"model {number}: mae 1.5000, mse 2.0000 (2 of 3) (own data of 3 clients)\n" in shown
    assert len(re.findall(r", training: mse 2.0000 \(2 of 3\)$", shown, re.MULTILINE)) == 2


def test_the_final_model_marks_a_mean_that_is_not_of_all_clients(run: tuple[Path, str]) -> None:
    shown = run[1]
    assert "\n  mae 1.5 (clients' own data)\n  mse 2 (clients' own data, 2 of 3)\n" in shown
    assert "\n  training/mse 2 (2 of 3)\n" in shown


def test_a_session_shows_of_how_many_clients_a_mean_is(run: tuple[Path, str]) -> None:
    shown = _fedmq("session", "show", "--state-dir", run[0])
    rows = [re.split(" {2,}", line.strip()) for line in shown.splitlines()[1:5]]
    assert rows[0] == ["round", "accepted", "seconds", "mae", "mse", "training/mse", "model"]
    assert rows[1][:3] == ["0", "1.5", "2 (2 of 3)"], "the seed was given to the clients of round 1"
    for row in rows[2:]:
        assert row[3:6] == ["1.5", "2 (2 of 3)", "2 (2 of 3)"]


def test_tables_have_the_number_of_values_of_each_mean(run: tuple[Path, str]) -> None:
    rows = list(csv.DictReader(_fedmq("session", "show", "--csv", "--state-dir", run[0]).splitlines()))
    assert [(row["mae n"], row["mse n"], row["training/mse n"]) for row in rows] == [
        ("3", "2", ""),
        ("3", "2", "2"),
        ("3", "2", "2"),
    ]
    assert [row["mse"] for row in rows] == ["2.0"] * 3
    alliance = Alliance(state_dir=run[0])
    newest = alliance.models()[0]
    assert (newest["mae n"], newest["mse n"]) == (3, 2)
    assert alliance.session(newest["session"]).metrics()[2]["mse n"] == 2
    shown = json.loads(_fedmq("session", "show", "--json", "--state-dir", run[0]))
    assert shown["metrics"][1]["mse n"] == 2
