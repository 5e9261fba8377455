"""The pool's end of one worker process: its pipes, its last output, and how it ended."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from fedmq_client.job.job import Job
from fedmq_client.pool import wire
from fedmq_client.pool.output import SETTLE_SECONDS, WorkerOutput
from fedmq_client.pool.stack_dump import StackDump

KILLED = "was killed with its job"


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
        self._printed = WorkerOutput()
        self._dump = StackDump()
        self._process = self._popen(environment)
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

    def _popen(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        shared = self._dump.descriptors
        try:
            # -P: a file beside the parent's working directory must not stand in for a module.
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "fedmq_client.pool.worker", *map(str, shared)],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                pass_fds=shared,
            )
        except OSError:
            self._dump.close()
            raise

    @property
    def is_usable(self) -> bool:
        """Whether it runs, was not killed, and is not spoilt."""
        return self.ended is None and not self._is_killed and not self.spoilt

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send_jobs(self, jobs: Iterable[tuple[Job, float]]) -> list[int]:
        """Sends jobs with the seconds that are left, and returns their numbers. All earlier jobs must have ended."""
        numbered = list(enumerate(jobs, self._sent_jobs + 1))
        self._sent_jobs += len(numbered)
        self._printed.expect((number, job) for number, (job, _) in numbered)
        self._send(*(self._jobs.message(job, number, timeout) for number, (job, timeout) in numbered))
        return [number for number, _ in numbered]

    def cancel(self, numbers: Iterable[int]) -> None:
        """Asks these jobs to end as cancelled, also before they begin."""
        self._send(*({"cancel": number} for number in numbers))

    def locate(self, number: int) -> None:
        """Requests the place in its code where this job is: `receive` returns the answer."""
        self._send({"locate": number})

    def dump_stack(self) -> None:
        """Makes the worker write its stack, also while C code holds the interpreter's lock. Does nothing before `ready`."""
        self._dump.request()

    def dumped_place(self, package: Path) -> str:
        """Returns where the package's code was in the last stack, such as `trainer.py:18 in train`; empty if unknown."""
        return self._dump.place(package)

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
        """Waits for the end of a process that was killed, and for the last of its output."""
        try:
            self._process.wait(timeout)
            self._readers[-1].join(SETTLE_SECONDS)
        except subprocess.TimeoutExpired:
            logging.getLogger(__name__).warning("worker %d does not end", self.pid)

    def output(self, number: int) -> str:
        """Returns the last lines that this job printed."""
        return self._printed.of(number)

    def _send(self, *messages: wire.PoolMessage) -> None:
        with contextlib.suppress(OSError):  # of a process that has ended: `ended` reports that
            wire.send(self._input, *messages)

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for message in wire.receive(self._output):
                if "ready" in message:
                    self._dump.expect(self.pid, *message["ready"])
                    self.ready = True
                else:
                    self._messages.put(message)

    def _read_output(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            self._printed.read(stream.fileno())

    def _await_end(self) -> None:
        code = self._process.wait()
        self._dump.close()
        # A child of the trainer may hold the pipes open; its output is of no interest.
        for thread in self._readers:
            thread.join(SETTLE_SECONDS)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self.ended = KILLED if self._is_killed else _how(code)
        self._printed.end()
        self._messages.put({"ended": self.ended})
        self._on_end()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
