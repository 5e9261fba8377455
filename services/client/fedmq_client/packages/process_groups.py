"""Runs the user's commands, each in a process group of its own that ends with this process.

A command may start further processes. All of them end when the task is cancelled, and also when this process is killed
with SIGKILL: a small shell, started once, reads a pipe of which only this process has the writing end. Each command
writes its group's number to the pipe. When the pipe breaks, the shell kills the last group that it has read.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

LOOK_AGAIN = 0.05
"""Seconds between two calls of `check`."""
_WATCH = 'g=; while read -r line; do g=$line; done; [ -z "$g" ] || kill -KILL "-$g"'


def run(command: str, folder: Path, environment: Mapping[str, str], check: Callable[[], None]) -> int:
    """Runs `bash -c COMMAND` in `folder` and returns its exit code, negative for the signal that ended it.

    Output goes to this process's standard error. `check` is called every LOOK_AGAIN seconds; if it raises, the command
    and all processes that it started are killed, and the exception passes. One command runs at a time.
    """
    with _running:
        pipe = _pipe()
        # The group writes its number before any of the user's code runs, so that it is watched from the start.
        process = subprocess.Popen(
            ["bash", "-c", f"echo $$ >&{pipe}; exec {pipe}>&-\n{command}"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[pipe],
            process_group=0,
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(LOOK_AGAIN)
                check()
        finally:
            # Processes that a command leaves behind end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.write(_pipe(), b"\n")


_running = threading.Lock()
_watch: subprocess.Popen[bytes] | None = None


def _pipe() -> int:
    """Returns the writing end of the watching shell's pipe. Starts the shell if it does not run."""
    global _watch  # noqa: PLW0603 (one shell a process, started when first needed)
    if _watch is None or _watch.poll() is not None:
        _watch = subprocess.Popen(
            ["sh", "-c", _WATCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(_dismiss, _watch)
    assert _watch.stdin is not None
    return _watch.stdin.fileno()


def _dismiss(watch: subprocess.Popen[bytes]) -> None:
    assert watch.stdin is not None
    watch.stdin.close()
    watch.wait()
