"""A trainer that changes the current folder, and a sandbox whose folders are given relative to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmq_sandbox import Sandbox
from support.packages import write_package

TRAINER = """
import os, sys, tempfile
from pathlib import Path
import numpy as np

class Trainer:
    def __init__(self, client):
        self.start = Path("start.txt").read_text()
        client.state_dir.mkdir(parents=True, exist_ok=True)
        (client.state_dir / "kept").touch()

    def init(self):
        return {"w": np.full(2, float(self.start))}

    def train(self, weights, task):
        os.chdir(tempfile.mkdtemp())
        sys.path.clear()
        return {"w": weights["w"] + 1}, 1, {}
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_relative_folders_are_those_of_the_start(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "package", TRAINER)
    (tmp_path / "package" / "start.txt").write_text("5")
    monkeypatch.chdir(tmp_path)
    with Sandbox(
        "package", state_dir="state", clients=2, combiners=1, workers=workers, rounds=2, evaluator=False
    ) as sandbox:
        rounds = list(sandbox.rounds())
        assert sandbox.weights()["w"].tolist() == [7.0, 7.0]
    assert [each.counts["accepted"] for each in rounds] == [2, 2]
    assert Path.cwd() == tmp_path
    assert sorted(os.listdir()) == ["package", "state"]
    assert (tmp_path / "state" / "clients" / "client1" / "kept").is_file()
