"""Commands of the user's, each in a process group of its own that ends with whoever started it.

A command may start processes in turn. All of them end when the task is cancelled, and also when this process is killed
without a word: a small shell, started once, holds the reading end of a pipe that nobody else has the writing end of,
and kills the group that it was last told when the pipe breaks.
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
"""Seconds between two looks at whether a command is still wanted."""
_WATCH = 'g=; while read -r line; do g=$line; done; [ -z "$g" ] || kill -KILL "-$g"'


def run(command: str, folder: Path, environment: Mapping[str, str], check: Callable[[], None]) -> int:
    """`bash -c COMMAND` in `folder`; its exit code, negative for the signal that ended it.

    Output goes to this process's own standard error. `check` is called again and again while it runs; when it raises,
    the command is killed with all that it started, and the exception passes. One command runs at a time.
    """
    with _running:
        pipe = _pipe()
        # The group tells its own number before anything of the user's runs, so that there is no moment unwatched.
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
            # What a command leaves behind ends with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.write(_pipe(), b"\n")


_running = threading.Lock()
_watch: subprocess.Popen[bytes] | None = None


def _pipe() -> int:
    """The writing end of the watching shell's pipe; it is started if it is not there."""
    global _watch
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
