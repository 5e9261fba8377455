"""A sandbox that is killed at any instant finishes its session when it is run again, with the same model."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

REGRESSION = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
CRASHING = Path(__file__).parent / "crashing.py"
ROUNDS = 150
KILLS = 20


def arguments(state_dir: Path) -> list[str]:
    return [
        "sandbox", "--package", str(REGRESSION), "--clients", "5", "--combiners", "2", "--rounds", str(ROUNDS),
        "--fraction", "0.6", "--random-seed", "4", "--state-dir", str(state_dir), "--json", str(state_dir / "out.json"),
    ]  # fmt: skip


def run(state_dir: Path, *before: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, *(before or ("-m", "fedmq_cli.app")), *arguments(state_dir)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(state_dir: Path) -> dict[str, Any]:
    process = run(state_dir)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    result: dict[str, Any] = json.loads((state_dir / "out.json").read_text())
    return result


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finish(tmp_path_factory.mktemp("undisturbed"))


def test_killed_at_twenty_random_instants(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    source = random.Random(20)
    kills = 0
    state_dir = tmp_path / "0"
    while kills < KILLS:
        process = run(state_dir)
        time.sleep(source.uniform(0.4, 1.2))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        if process.returncode == 0:
            assert json.loads((state_dir / "out.json").read_text())["sha256"] == undisturbed["sha256"]
            state_dir = tmp_path / str(kills)
    result = finish(state_dir)
    assert result["sha256"] == undisturbed["sha256"]
    assert [one["round"] for one in result["rounds"]] == list(range(1, ROUNDS + 1))


@pytest.mark.parametrize("place", ["inside a blob write", "before the commit", "after the commit"])
@pytest.mark.parametrize("number", [2, 31])
def test_killed_at_one_exact_place(place: str, number: int, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    process = run(tmp_path, str(CRASHING), place, str(number))
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    result = finish(tmp_path)
    assert result["sha256"] == undisturbed["sha256"]
    assert all(one["accepted"] == 3 for one in result["rounds"])
