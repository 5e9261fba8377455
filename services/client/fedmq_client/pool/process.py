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
from collections.abc import Callable, Iterable, Mapping
from queue import Empty, SimpleQueue

from fedmq_client.job.job import Job
from fedmq_client.pool import wire
from fedmq_client.pool.worker import END_OF_OUTPUT

TAIL_LINES = 100
LINE_BYTES = 500
TAIL_CHARACTERS = 8_000
SETTLE_SECONDS = 1.0
BANNER = re.compile(r"I\d{4} \d\d:\d\d:|WARNING: All log messages before absl")
"""TensorFlow's greetings, which none of its settings suppresses and which explain no failure."""

output_log = logging.getLogger("fedmq_client.output")
"""What trainers print, line by line, at level DEBUG."""


class WorkerProcess:
    """A running worker process, used by one thread at a time.

    - `ready`: whether it has ever been ready for a job.
    - `spoilt`: what a trainer changed of it for good, or empty. Set by the caller.
    - `ended`: how the process ended, in words; None while it runs. `on_end` is called after it is set, on any thread.
    """

    def __init__(self, environment: Mapping[str, str], on_end: Callable[[], None]) -> None:
        """Starts the process. Raises OSError if the system refuses."""
        self.ready = False
        self.spoilt = ""
        self.ended: str | None = None
        self._is_killed = False
        self._on_end = on_end
        self._messages: SimpleQueue[wire.PoolMessage | None] = SimpleQueue()
        self._jobs = wire.JobWriter()
        self._sent_jobs = 0
        # Output arrives on a pipe of its own, so that it may be later than the result of its job.
        self._printed = threading.Condition()
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._printed_jobs = 0
        self._outputs: dict[int, str] = {}
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
        self._readers = [
            threading.Thread(target=target, name=f"fedmq-worker-{target.__name__}", daemon=True)
            for target in (self._read_messages, self._read_output)
        ]
        for thread in self._readers:
            thread.start()
        threading.Thread(target=self._await_end, name="fedmq-worker-end", daemon=True).start()

    @property
    def is_usable(self) -> bool:
        """Whether it runs and is not spoilt."""
        return self.ended is None and not self.spoilt

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send_jobs(self, jobs: Iterable[tuple[Job, float]]) -> list[int]:
        """Sends jobs with the seconds that are left, and returns their numbers. All earlier jobs must have ended."""
        with self._printed:
            self._outputs.clear()
        numbered = list(enumerate(jobs, self._sent_jobs + 1))
        self._sent_jobs += len(numbered)
        self._send(*(self._jobs.message(job, number, timeout) for number, (job, timeout) in numbered))
        return [number for number, _ in numbered]

    def cancel(self, numbers: Iterable[int]) -> None:
        """Asks these jobs to end as cancelled, also before they begin."""
        self._send(*({"cancel": number} for number in numbers))

    def locate(self, number: int) -> None:
        """Requests the place in its code where this job is: `receive` returns the answer."""
        self._send({"locate": number})

    def wake(self) -> None:
        """Makes `receive` return None. May be called on any thread."""
        self._messages.put(None)

    def receive(self, timeout: float) -> wire.PoolMessage | None:
        """Waits for the worker's next message; None after `timeout` seconds or `wake`. The last one is `{"ended": how}`."""
        with contextlib.suppress(Empty):
            return self._messages.get(timeout=timeout)
        return None

    def kill(self) -> None:
        """Ends the process and its children at once."""
        self._is_killed = True
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def wait(self, timeout: float) -> None:
        """Waits for the end of a process that was killed."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            logging.getLogger(__name__).warning("worker %d does not end", self.pid)

    def output(self, number: int) -> str:
        """Returns the last lines that this job printed. Waits up to SETTLE_SECONDS until they have all arrived."""
        with self._printed:
            self._printed.wait_for(lambda: self._printed_jobs >= number or self.ended is not None, SETTLE_SECONDS)
            return self._outputs.get(number, "") if self._printed_jobs >= number else self._tail()

    def with_output(self, traceback: str, number: int) -> str:
        """Returns the traceback, followed by the last lines that this job printed."""
        output = self.output(number)
        return f"{traceback}--- last lines of output ---\n{output}\n" if output else traceback

    def _send(self, *messages: wire.PoolMessage) -> None:
        with contextlib.suppress(OSError):  # of a process that has ended: `ended` reports that
            wire.send(self._input, *messages)

    def _tail(self) -> str:
        return "\n".join(self._lines)[-TAIL_CHARACTERS:]

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for message in wire.receive(self._output):
                if "ready" in message:
                    self.ready = True
                else:
                    self._messages.put(message)

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
                        self._add_line(line)
                    self._printed.notify_all()

    def _add_line(self, raw: bytes) -> None:
        is_end = raw.endswith(END_OF_OUTPUT)
        if is_end:
            raw = raw[: -len(END_OF_OUTPUT)]
        if raw or not is_end:
            line = raw[:LINE_BYTES].decode(errors="replace").rstrip("\r").rpartition("\r")[2]
            if not BANNER.match(line):
                self._lines.append(line)
            output_log.debug("%s", line)
        if is_end:
            self._printed_jobs += 1
            if self._lines:
                self._outputs[self._printed_jobs] = self._tail()
                self._lines.clear()

    def _await_end(self) -> None:
        code = self._process.wait()
        # A child of the trainer may hold the pipes open; its output is of no interest.
        for thread in self._readers:
            thread.join(SETTLE_SECONDS)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with self._printed:
            self.ended = "was killed with its job" if self._is_killed else _how(code)
            self._printed.notify_all()
        self._messages.put({"ended": self.ended})
        self._on_end()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
