"""Prometheus's own tool, which checks expositions, configurations and rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.tiers import require


def promtool(*words: str | Path, given: str = "", folder: Path | None = None) -> None:
    """Runs promtool with this standard input. Skips the test where it is missing; fails with what it prints."""
    require(None if shutil.which("promtool") else "promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        ["promtool", *words],
        input=given,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def check_exposition(text: str) -> None:
    """Fails unless Prometheus can read the text, and finds its names, types and help in order."""
    promtool("check", "metrics", given=text)
