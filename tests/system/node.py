"""One process of a distributed alliance."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.waiting import SECONDS

COMMAND = Path(sys.executable).parent / "fedmq"


@dataclass
class Node:
    """A process that can be started again under the same identity."""

    name: str
    role: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    health_port: int = 0
    api_port: int = 0
    program: tuple[str | Path, ...] = (COMMAND, "run")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, self.role],
                env=self.environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()  # also ends one that is halted
            self.process.wait()
            self.process = None

    def stop(self, timeout: float = SECONDS) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        finally:
            self.kill()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=SECONDS) as answer:
            text: str = answer.read().decode()
            return text

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/health", timeout=SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
