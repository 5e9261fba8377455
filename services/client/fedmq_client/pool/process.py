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

from fedmq_client.pool import wire
from fedmq_client.pool.worker import END_OF_OUTPUT

TAIL_LINES = 100
LINE_BYTES = 500
TAIL_CHARACTERS = 8_000
SETTLE_SECONDS = 1.0
MOST_OUTPUTS = 1_000
"""Jobs whose last lines are kept: more than a worker is handed ahead."""
BANNER = re.compile(r"I\d{4} \d\d:\d\d:|WARNING: All log messages before absl")
"""TensorFlow's greetings, which no setting of its own keeps quiet and which explain no failure."""

output_log = logging.getLogger("fedmq_client.output")
"""What trainers print, line by line, at level DEBUG."""


class Child:
    """A running worker process. `messages` and `ended` change under `changed`, which is notified. `jobs` writes what is
    to be sent to it; `results` counts those that were heard."""

    def __init__(self, environment: Mapping[str, str], changed: threading.Condition) -> None:
        self.changed = changed
        self.messages: list[wire.PoolMessage] = []
        self.jobs = wire.JobWriter()
        self.results = 0
        self.ready = False
        self.ended: str | None = None
        """Once the process has ended: how, in words."""
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._outputs: dict[int, str] = {}
        self._ended_jobs = 0
        self._printed = threading.Condition()
        # -P: a file beside the parent's working directory must not stand in for a module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedmq_client.pool.worker"],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._input, self._output):
            wire.widen(pipe)
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

    def send(self, data: bytes) -> None:
        """A worker that is gone is no error here: `ended` tells."""
        with contextlib.suppress(OSError):
            wire.send(self._input, data)

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

    def output(self) -> str:
        """The last lines that the job of the last result heard printed, once they have all come."""
        with self._printed:
            self._printed.wait_for(lambda: self._ended_jobs >= self.results or self.ended is not None, SETTLE_SECONDS)
            return self._outputs.get(self.results, "")

    def last_output(self) -> str:
        """The last lines of the job that ran when the process ended."""
        with self._printed:
            return self._tail()

    def _tail(self) -> str:
        return "\n".join(self._lines)[-TAIL_CHARACTERS:]

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for messages in wire.receive(self._output):
                with self.changed:
                    if "ready" in messages[0]:
                        self.ready = True
                        del messages[0]
                    self.messages += messages
                    self.changed.notify_all()

    def _read_output(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            rest = b""
            while data := os.read(stream.fileno(), wire.PIPE_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                while len(rest) > LINE_BYTES:
                    lines.append(rest[:LINE_BYTES])
                    rest = rest[LINE_BYTES:]
                with self._printed:
                    for line in lines:
                        self._take_line(line)
                    self._printed.notify_all()

    def _take_line(self, raw: bytes) -> None:
        is_end = raw.endswith(END_OF_OUTPUT)
        if is_end:
            raw = raw[: -len(END_OF_OUTPUT)]
        if raw or not is_end:
            line = raw[:LINE_BYTES].decode(errors="replace").rstrip("\r").rpartition("\r")[2]
            if not BANNER.match(line):
                self._lines.append(line)
            output_log.debug("%s", line)
        if is_end:
            self._ended_jobs += 1
            if self._lines:
                self._outputs[self._ended_jobs] = self._tail()
                self._lines.clear()
                if len(self._outputs) > MOST_OUTPUTS:
                    del self._outputs[next(iter(self._outputs))]

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
        with self._printed:
            self._printed.notify_all()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
