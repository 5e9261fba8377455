"""Packages, settings and folders that can't be used: refused before anything starts, with what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq.process.settings import ClientSettings, CombinerSettings
from fedmq_client.packages.package import PackageError
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def init(self):
        return {"w": np.zeros(3, np.float32)}
    def train(self, weights, task):
        return weights, 1, {}
"""
GOOD = {"fedn.yaml": "trainer: trainer.py:Trainer\n", "trainer.py": TRAINER}

PACKAGES: dict[str, tuple[dict[str, str], str]] = {
    "no fedn.yaml": ({"trainer.py": TRAINER}, "has no fedn.yaml: write one with the line"),
    "bad YAML": ({"fedn.yaml": "trainer: [\n"}, "is not valid YAML"),
    "YAML that is no map": ({"fedn.yaml": "trainer.py\n"}, "must hold keys such as"),
    "an unknown key": ({"fedn.yaml": "trainers: trainer.py\n"}, "unknown keys ['trainers']"),
    "a file that is not there": ({"fedn.yaml": "trainer: other.py\n"}, "there is no such .py file"),
    "a missing class": ({**GOOD, "fedn.yaml": "trainer: trainer.py:Trainr\n"}, "has no class Trainr"),
    "a class without train": ({**GOOD, "trainer.py": "class Trainer: ...\n"}, "has no method train"),
    "code that does not run": ({**GOOD, "trainer.py": "import nothing_of_the_kind\n"}, "nothing_of_the_kind"),
    "no init and no seed": (
        {**GOOD, "trainer.py": TRAINER.replace("def init(", "def begin(")},
        "the trainer has no init()",
    ),
    "an init that makes no model": (
        {**GOOD, "trainer.py": TRAINER.replace('return {"w": np.zeros(3, np.float32)}', "return [1, 2]")},
        "init returned a list",
    ),
}


def _sandbox(folder: Path, files: dict[str, str], **options: Any) -> Sandbox:
    package = folder / "package"
    package.mkdir(exist_ok=True)
    for name, text in files.items():
        (package / name).write_text(text)
    return Sandbox(package, clients=1, combiners=1, workers=0, evaluator=False, rounds=1, **options)


@pytest.mark.parametrize("row", PACKAGES)
def test_a_package_that_can_not_be_used_is_refused_with_what_to_write(tmp_path: Path, row: str) -> None:
    files, words = PACKAGES[row]
    with pytest.raises(ConfigError) as refused, _sandbox(tmp_path, files) as sandbox:
        sandbox.run()
    assert words in refused.value.reason


def test_a_package_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="there is no folder"), Sandbox(tmp_path / "x"):
        pass


def test_a_package_that_breaks_after_the_seed_fails_its_tasks_with_the_reason(tmp_path: Path) -> None:
    """As at one site of many: the clients tell why, and the session ends with the count."""
    trainer = TRAINER.replace("return weights, 1, {}", "raise RuntimeError('no GPU')")
    with _sandbox(tmp_path, {**GOOD, "trainer.py": trainer}, retries=0) as sandbox:
        session = sandbox.run()
        told = sandbox.records.find(tables.EVENTS, {"name": "update.failed"})
    assert session["state"] == "failed" and session["reason"] == "round 1 got 0 updates of 1 in 1 attempt"
    assert [event["data"]["reason"] for event in told] == ["train raised RuntimeError: no GPU"]


def test_bad_environment_variables_are_all_told_at_once_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLIANCE_UID", "two words")
    monkeypatch.setenv("FEDN_PRESENCE", "often")
    monkeypatch.setenv("FEDN_MINIO_SECRET_KEY", "s3cret")
    with pytest.raises(ConfigError) as refused:
        CombinerSettings.load()
    assert "ALLIANCE_UID" in refused.value.reason and "FEDN_PRESENCE" in refused.value.reason
    assert "s3cret" not in refused.value.reason


def test_a_misspelt_variable_is_named_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDN_PRESENSE", "5")
    ClientSettings.load(name="site1", package=tmp_path)
    assert "FEDN_PRESENSE" in caplog.text and "FEDN_PRESENCE" in caplog.text


def test_a_state_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    one, other = (_sandbox(tmp_path, GOOD, state_dir=tmp_path / "state") for _ in range(2))
    with (
        one,
        pytest.raises(ConfigError, match="another sandbox is running in"),
        other,
    ):
        pass
