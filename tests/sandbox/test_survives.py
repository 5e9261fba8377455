"""A sandbox that is killed at any instant finishes its session when it is run again, with the same model."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REGRESSION = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
CRASHING = Path(__file__).parent / "crashing.py"
ROUNDS = 150
KILLS = 20
MOST_CALLS = 1000
"""Writes, messages and acknowledgements of one life: the session takes 11,000, so that no life ends it."""


def run(state_dir: Path, *before: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        *(before or ("-m", "fedmq_cli.app")),
        "sandbox",
        "--package",
        str(REGRESSION),
        "--clients",
        "5",
        "--combiners",
        "2",
        "--rounds",
        str(ROUNDS),
        "--fraction",
        "0.6",
        "--random-seed",
        "4",
        "--state-dir",
        str(state_dir),
        "--json",
        str(state_dir / "out.json"),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def finish(state_dir: Path) -> dict[str, Any]:
    done = run(state_dir)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((state_dir / "out.json").read_text())
    return result


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finish(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.timeout(900)
def test_killed_at_twenty_drawn_instants(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """An instant is before or after a write, a message or an acknowledgement, counted from the start of the process."""
    draws = random.Random(20)
    for _ in range(KILLS):
        place = draws.choice(("before anything", "after anything"))
        killed = run(tmp_path, str(CRASHING), place, str(draws.randint(1, MOST_CALLS)))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    result = finish(tmp_path)
    assert result["sha256"] == undisturbed["sha256"]
    assert [one["round"] for one in result["rounds"]] == list(range(1, ROUNDS + 1))


@pytest.mark.parametrize("place", ["inside a blob write", "before the commit", "after the commit"])
@pytest.mark.parametrize("number", [2, 31])
def test_killed_at_one_exact_place(place: str, number: int, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path, str(CRASHING), place, str(number)).returncode == -signal.SIGKILL
    result = finish(tmp_path)
    assert result["sha256"] == undisturbed["sha256"]
    assert all(one["accepted"] == 3 for one in result["rounds"])
