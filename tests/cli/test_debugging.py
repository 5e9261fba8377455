"""`fedmq sandbox --debug`, driven through a pseudo terminal as a person at a keyboard does."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from support.packages import write_package

STOPS = """
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        breakpoint()
        weights["w"] += 1
        return weights, 1, {}
"""
PATIENCE = 60.0


def _at_a_terminal(words: Sequence[str], folder: Path, answers: Sequence[str]) -> tuple[int, str]:
    """Runs the command, answers each prompt of the debugger, and returns the exit code and what the terminal showed."""
    keyboard, terminal = pty.openpty()
    command = [sys.executable, "-m", "fedmq_cli.app", *words]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder) as process:
        os.close(terminal)
        shown, left, ends = b"", [f"{answer}\n".encode() for answer in answers], time.monotonic() + PATIENCE
        with suppress(OSError):  # which Linux raises once the process has closed the terminal
            while select.select([keyboard], [], [], max(0.0, ends - time.monotonic()))[0]:
                shown += os.read(keyboard, 4096)
                if shown.endswith(b"(Pdb) ") and left:
                    os.write(keyboard, left.pop(0))
            process.kill()
        os.close(keyboard)
    return process.returncode, shown.decode().replace("\r\n", "\n")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    package = write_package(tmp_path / "stops", STOPS)
    return ["sandbox", "--package", str(package), "--clients", "2", "--rounds", "1", "--state-dir", "run"]


def test_a_breakpoint_opens_the_debugger_and_c_continues(tmp_path: Path, command: list[str]) -> None:
    code, shown = _at_a_terminal([*command, "--debug"], tmp_path, ["p self.client.name", "c", "c"])
    assert code == 0, shown
    assert "trainer.py(13)train()\n-> weights" in shown
    assert "'client1'" in shown or "'client2'" in shown
    assert shown.count("(Pdb) ") == 3
    assert "round 1 of 1: 2 of 2 accepted" in shown


def test_leaving_the_debugger_interrupts_the_session(tmp_path: Path, command: list[str]) -> None:
    code, shown = _at_a_terminal([*command, "--debug"], tmp_path, ["q"])
    assert code == 130, shown
    assert "interrupted; to go on: fedmq sandbox" in shown and shown.count("(Pdb) ") == 1


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_breakpoint_without_a_terminal_names_the_option(tmp_path: Path, command: list[str], workers: str) -> None:
    words = [sys.executable, "-m", "fedmq_cli.app", *command, "--set", "retries=0", "--workers", workers]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE
    )
    shown = done.stdout + done.stderr
    assert (
        "2 of 2 clients failed: train left the debugger (BdbQuit): breakpoint() needs `fedmq sandbox --debug`" in shown
    )
    assert "bdb.py" not in shown
