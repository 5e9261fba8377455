"""A sandbox that lets models go is killed, and run again: what is left is what its policy keeps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.selection import best_model
from fedmq_schemas import records as tables

REGRESSION = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
CRASHING = Path(__file__).parent / "crashing.py"
ROUNDS, EVERY = 9, 4


def _command(state_dir: Path, *before: str, keep: str = str(EVERY)) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        *(before or ("-m", "fedmq_cli.app")),
        "sandbox",
        "--package",
        str(REGRESSION),
        "--clients",
        "3",
        "--rounds",
        str(ROUNDS),
        "--random-seed",
        "3",
        "--workers",
        "0",
        "--state-dir",
        str(state_dir),
        "--json",
        "-",
        "--set",
        f"retention.keep_models={keep}",
        "--set",
        "strategy.name=fedadam",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _left(state_dir: Path) -> tuple[set[int], set[int], set[int], int]:
    """The rounds of which there are model and optimizer state, those whose model is recorded as kept, and the best one."""
    records = SqliteRecords(state_dir / "records.db")
    try:
        models = records.find(tables.MODELS)
        states = {each["round"]: each["optimizer"]["key"] for each in records.find(tables.ROUNDS)}
    finally:
        records.close()
    blobs = state_dir / "blobs"
    there = {each["round"] for each in models if (blobs / each["ref"]["key"]).exists()}
    resumable = {number for number, key in states.items() if (blobs / key).exists()}
    return there, resumable, {each["round"] for each in models if each["kept"]}, best_model(models, None, None)["round"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    state_dir = tmp_path_factory.mktemp("whole")
    result: dict[str, Any] = json.loads(_command(state_dir, keep="all").stdout)
    there, resumable, kept, best = _left(state_dir)
    assert there == kept == set(range(ROUNDS + 1)) and resumable == set(range(1, ROUNDS + 1))
    return result | {"best": best}


def _assert_only_what_is_kept_is_left(state_dir: Path, undisturbed: dict[str, Any]) -> None:
    result = json.loads(_command(state_dir).stdout)
    assert result["sha256"] == undisturbed["sha256"]
    there, resumable, kept, best = _left(state_dir)
    assert best == undisturbed["best"]
    assert there == kept == {0, best, ROUNDS, *range(EVERY, ROUNDS + 1, EVERY)}
    assert resumable == there - {0}


def test_seed_best_last_and_every_so_many_th_model_stay_with_their_optimizer_states(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    _assert_only_what_is_kept_is_left(tmp_path, undisturbed)


@pytest.mark.parametrize(("place", "number"), [("before a model is deleted", "1"), ("after a model is deleted", "3")])
def test_a_kill_between_record_and_deletion_leaves_nothing_behind(
    place: str, number: str, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    assert _command(tmp_path, str(CRASHING), place, number).returncode == -signal.SIGKILL
    _assert_only_what_is_kept_is_left(tmp_path, undisturbed)
