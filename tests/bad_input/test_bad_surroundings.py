"""Packages, settings and folders that can't be used: refused before anything starts, with what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq_sandbox import Sandbox

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


def test_a_state_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    one, other = (_sandbox(tmp_path, GOOD, state_dir=tmp_path / "state") for _ in range(2))
    with (
        one,
        pytest.raises(ConfigError, match="another sandbox is running in"),
        other,
    ):
        pass
