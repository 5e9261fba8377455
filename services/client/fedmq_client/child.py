"""The pool's end of one worker process: its pipes, its last output, and how it ended."""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from fedmq_client import wire
from fedmq_client.worker import END_OF_OUTPUT

TAIL_LINES = 100
LINE_BYTES = 500
TAIL_CHARACTERS = 8_000
SETTLE_SECONDS = 1.0
BANNER = re.compile(r"I\d{4} \d\d:\d\d:|WARNING: All log messages before absl")
"""TensorFlow's greetings, which no setting of its own keeps quiet and which explain no failure."""

output_log = logging.getLogger("fedmq_client.output")
"""What trainers print, line by line, at level DEBUG."""


class Child:
    """A running worker process. `messages` and `ended` change under `changed`, which is notified."""

    def __init__(self, environment: Mapping[str, str], changed: threading.Condition) -> None:
        self.changed = changed
        self.messages: deque[wire.Message] = deque()
        self.ready = False
        self.ended: str | None = None
        """Once the process has ended: how, in words."""
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._settled = ""
        # -P: a file beside the parent's working directory must not stand in for a module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedmq_client.worker"],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._threads = [
            threading.Thread(target=target, name=f"fedmq-worker-{target.__name__}", daemon=True)
            for target in (self._read_messages, self._read_output)
        ]
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._reap, name="fedmq-worker-reap", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """A worker that is gone is no error here: `ended` tells."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            wire.send(self._process.stdin, message)

    def kill(self) -> None:
        """End the process and its children, at once."""
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def wait(self, timeout: float) -> None:
        """Wait for the end of a process that was killed."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            logging.getLogger(__name__).warning("worker %d does not end", self.pid)

    def forget_output(self) -> None:
        with self.changed:
            self._lines.clear()

    def output(self, job_id: str) -> str:
        """The last lines that the job printed, once they have all come."""
        with self.changed:
            self.changed.wait_for(lambda: self._settled == job_id or self.ended is not None, SETTLE_SECONDS)
            return "\n".join(self._lines)[-TAIL_CHARACTERS:]

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while (message := wire.receive(stream)) is not None:
                with self.changed:
                    if "ready" in message:
                        self.ready = True
                    else:
                        self.messages.append(message)
                    self.changed.notify_all()

    def _read_output(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while raw := stream.readline(LINE_BYTES):
                line = raw.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
                with self.changed:
                    if line.startswith(END_OF_OUTPUT):
                        self._settled = line[len(END_OF_OUTPUT) :]
                        self.changed.notify_all()
                        continue
                    if not BANNER.match(line):
                        self._lines.append(line)
                output_log.debug("%s", line)

    def _reap(self) -> None:
        code = self._process.wait()
        # A child of the trainer may hold the pipes open; what it would say is of no interest.
        for thread in self._threads:
            thread.join(SETTLE_SECONDS)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with self.changed:
            self.ended = _how(code)
            self.changed.notify_all()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
