"""A reader who types the blocks of a page as they stand, in a checkout of their own.

Two things differ from a reader's machine. The example MNIST has a tenth of its digits, which saves minutes. The services
listen on free ports, so the ports of the text are replaced.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Self

import numpy as np

from docs.blocks import ROOT, Block, blocks
from support.servers.ports import free_ports

BIN = Path(sys.executable).parent
LEFT_OUT = {".git", ".venv", "build", "dist", "examples", "fedmq-runs"}
BLOCK_SECONDS = 240.0
STOP_SECONDS = 30.0


def checkout(folder: Path) -> Path:
    """Makes a checkout in `folder`, with an environment in which everything is installed."""
    for path in ROOT.iterdir():
        if path.name not in LEFT_OUT:
            (folder / path.name).symlink_to(path)
    (folder / "examples").mkdir()
    for path in (ROOT / "examples").iterdir():
        if path.name != "mnist":
            (folder / "examples" / path.name).symlink_to(path)
    mnist = folder / "examples" / "mnist"
    shutil.copytree(ROOT / "examples" / "mnist", mnist, ignore=shutil.ignore_patterns("*.npz", "__pycache__"))
    with np.load(ROOT / "examples" / "mnist" / "data" / "mnist-12k.npz") as digits:
        np.savez(
            mnist / "data" / "mnist-12k.npz", **{name: array[: len(array) // 10] for name, array in digits.items()}
        )
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(BIN)
    for stamp in ("installed-all", "installed-demo"):
        (folder / ".venv" / stamp).touch()
    return folder


class Reader:
    """Types blocks in `folder`. On exit, ends what keeps running. `environment` is added to this process's own."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.api, self.dashboard = free_ports(2)
        # `make` that runs the tests has variables that the page's `make` must not inherit.
        ours = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKELEVEL")}
        self.environment = {
            **ours,
            "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
            "HOME": str(folder),
            "FEDN_REDUCER_PORT": str(self.api),
            "FEDN_DASHBOARD_PORT": str(self.dashboard),
            **(environment or {}),
        }
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, page: str) -> list[str]:
        """Types all blocks of a page that are not marked. Returns the output of each that ends."""
        return [self.type(block) for block in blocks(page) if block.reason is None]

    def type(self, block: Block, code: int = 0) -> str:
        """Types a block. It must end with `code`, or print a line if it keeps running. Returns its output until then."""
        text = self.replaced(block.text)
        words = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        if block.keeps_running:
            return self._keep_running(block, words)
        process = self._start(words)
        self._stack.callback(_end, process)
        output, _ = process.communicate(timeout=BLOCK_SECONDS)
        assert process.returncode == code, f"{block} failed:\n{block.text}\n{output}"
        return output

    def replaced(self, text: str) -> str:
        """Returns the text with free ports instead of the usual ones."""
        return (
            text.replace("localhost:8090", f"localhost:{self.api}")
            .replace("localhost:5111", f"localhost:{self.dashboard}")
            .replace("--serve\n", f"--serve --port {self.api}\n")
        )

    def _start(self, words: list[str]) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own."""
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _keep_running(self, block: Block, words: list[str]) -> str:
        process = self._start(words)
        lines: Queue[str] = Queue()
        copying = threading.Thread(target=_copy, args=(process, lines), daemon=True)
        copying.start()
        self._stack.callback(copying.join, STOP_SECONDS)
        self._stack.callback(_end, process)
        try:
            line = lines.get(timeout=BLOCK_SECONDS)
        except Empty:
            raise AssertionError(f"{block} printed no line") from None
        assert process.poll() is None, f"{block} has ended:\n{line}"
        return line


def _copy(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    """Reads all output, so that the process never waits for its reader."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a process and its children, as Ctrl-C does, and at last by force."""
    if process.poll() is None:
        os.killpg(process.pid, 2)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
