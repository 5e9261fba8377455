"""`fedmq sandbox` on the regression example as a process, which may be made to kill itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

REGRESSION = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
CRASHING = Path(__file__).parent / "crashing.py"
SECONDS = 100


def _run(state_dir: Path, words: str, *program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, "sandbox", "--package", str(REGRESSION), "--state-dir", str(state_dir)]
    return subprocess.run([*command, "--json", "-", *words.split()], capture_output=True, text=True, timeout=SECONDS)


def finish(state_dir: Path, words: str) -> dict[str, Any]:
    """Runs the session to its end and returns its result."""
    return finish_and_show(state_dir, words)[0]


def finish_and_show(state_dir: Path, words: str) -> tuple[dict[str, Any], str]:
    """Runs the session to its end, and returns its result and what the console showed."""
    done = _run(state_dir, words, "-m", "fedmq_cli.app")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def kill(state_dir: Path, words: str, place: str, number: int) -> None:
    """Runs the session until the process kills itself at a place: see `crashing.py`."""
    killed = _run(state_dir, words, str(CRASHING), place, str(number))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
