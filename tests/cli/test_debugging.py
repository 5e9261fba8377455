"""`fedmq sandbox --debug`, driven through a pseudo terminal as a person at a keyboard does."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
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
HANGS = """
import time
import numpy as np

class Trainer:
    def __init__(self, client): ...

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        print("hangs")
        while True:
            time.sleep(0.1)
"""
CATCHES = """
import time
import numpy as np

class Trainer:
    def __init__(self, client): ...

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        while True:
            try:
                print("hangs")
                while True:
                    time.sleep(0.1)
            except KeyboardInterrupt:
                pass
"""
PATIENCE = 60.0
PROMPT = b"(Pdb) "
CTRL_C = "\x03"
AGAIN = 2.0
"""Seconds without output until Ctrl-C is pressed again: readline misses one between its prompt and its wait for a key."""


def _at_a_terminal(
    words: Sequence[str], folder: Path, answers: Sequence[str], prompt: bytes = PROMPT
) -> tuple[int, str]:
    """Runs the command, answers each prompt, and returns the exit code and what the terminal showed.

    The terminal is in the end as it was before.
    """
    keyboard, terminal = pty.openpty()
    settings = termios.tcgetattr(keyboard)
    command = [sys.executable, "-m", "fedmq_cli.app", *words]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder) as process:
        os.close(terminal)
        shown, answer, left, ends = b"", "", list(answers), time.monotonic() + PATIENCE
        with suppress(OSError):  # which Linux raises once the process has closed the terminal
            while time.monotonic() < ends:
                if not select.select([keyboard], [], [], AGAIN)[0]:
                    if answer == CTRL_C and shown.endswith(PROMPT):
                        process.send_signal(signal.SIGINT)
                    continue
                shown += os.read(keyboard, 4096)
                if shown.endswith(prompt) and left:
                    if (answer := left.pop(0)) == CTRL_C:
                        process.send_signal(signal.SIGINT)
                    else:
                        os.write(keyboard, f"{answer}\n".encode())
            process.kill()
        assert termios.tcgetattr(keyboard) == settings
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


def test_ctrl_c_at_the_prompt_belongs_to_the_debugger(tmp_path: Path, command: list[str]) -> None:
    code, shown = _at_a_terminal([*command, "--debug"], tmp_path, [CTRL_C, CTRL_C, "c", "c"])
    assert code == 0, shown
    assert shown.count("--KeyboardInterrupt--") >= 2
    assert "round 1 of 1: 2 of 2 accepted" in shown


@pytest.mark.parametrize(("trainer", "presses"), [(HANGS, 1), (CATCHES, 2)])
def test_ctrl_c_under_debug_ends_a_trainer_that_hangs_and_says_where(
    tmp_path: Path, trainer: str, presses: int
) -> None:
    package = write_package(tmp_path / "hangs", trainer)
    words = ["sandbox", "--package", str(package), "--clients", "1", "--debug", "--state-dir", "run"]
    code, shown = _at_a_terminal(words, tmp_path, [CTRL_C] * presses, b"hangs\r\n")
    assert code == 130, shown
    assert re.search(
        r"\nclient1's trainer is in trainer\.py:1\d in train\ninterrupted; to go on: fedmq sandbox ", shown
    ), shown
    assert "Traceback" not in shown


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
