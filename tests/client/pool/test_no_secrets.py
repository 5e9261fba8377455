"""A trainer's environment has no secret of FedMQ, wherever it runs."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client.pool.runner import Runner
from fedmq_client.packages import environments
from fedmq_client.pool.inline import InlinePool
from fedmq_client.pool.processes import ProcessPool
from support.packages import write_package

TRAINER = """
import os, subprocess
import numpy as np

AT_IMPORT = "hush" in str(os.environ)

class Trainer:
    def __init__(self, client):
        self.at_start = "hush" in str(os.environ)

    def init(self):
        return {"w": np.zeros(3, np.float32), "n": np.zeros(1, np.int64)}

    def train(self, weights, task):
        child = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
        return weights, 5, {
            "at import": AT_IMPORT,
            "at start": self.at_start,
            "here": "hush" in str(os.environ),
            "child": "hush" in child,
            "data": os.environ["FEDN_DATA_PATH"],
        }
"""
SECRET = ("FEDN_AMQP_URL", "fedn_amqp_url", "FEDN_AMQP_URL_FILE", "FEDN_ADMIN_TOKEN", "FEDN_MINIO_SECRET_KEY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets as a client's process has them, and a setting that trainers read."""
    for name in SECRET:
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("FEDN_DATA_PATH", "/data")


@pytest.mark.parametrize("make", [ProcessPool, InlinePool])
def test_a_trainer_sees_no_password_of_the_broker(make: Any, tmp_path: Path) -> None:
    pool = make()
    try:
        runner = Runner(pool, write_package(tmp_path / "package", TRAINER))
        metrics = runner.start(runner.job())().metrics
    finally:
        pool.close()
    assert metrics == {
        "at import": False,
        "at start": False,
        "here": False,
        "child": False,
        "data": "/data",
    }
    assert {os.environ[name] for name in SECRET} == {"hush"}, "this process keeps its own"


def test_what_a_package_installs_sees_no_password_of_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Mapping[str, str]] = []

    def pip(command: list[str], *, env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        given.append(env)
        return subprocess.CompletedProcess(command, 0, "", "")

    described = tmp_path / "python_env.yaml"
    described.write_text("dependencies: [a]\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(venv, "create", lambda folder, **_: folder.mkdir(parents=True))
    monkeypatch.setattr(subprocess, "run", pip)
    environments.prepare(described)
    assert len(given) == 1 and "hush" not in str(given) and given[0]["FEDN_DATA_PATH"] == "/data"
