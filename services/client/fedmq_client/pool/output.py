"""What the jobs of one worker print: the last lines of each job, and all of it in a file for each client."""

import contextlib
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fedmq.reasons import OUTPUT_HEADING
from fedmq_client.job.job import Job
from fedmq_client.pool import wire
from fedmq_client.pool.worker import END_OF_OUTPUT
from fedmq_schemas.limits import LONGEST_TRACEBACK

KEPT_LINES = 400
"""Number of a job's last lines that are kept. A crash in C code prints many: the calls of up to 100 threads."""
SHOWN_LINES = 100
"""Number of the last lines that a failure is sent with."""
LINE_BYTES = 500
TRACEBACK_CHARACTERS = 6_000
"""Length of a traceback with output, of which the end is kept. The output has the rest of what a message can hold."""
SETTLE_SECONDS = 1.0
FILE_BYTES = 1_000_000
BANNER = re.compile(r"I\d{4} \d\d:\d\d:|WARNING: All log messages before absl")
"""TensorFlow's greetings, which none of its settings suppresses and which explain no failure."""

output_log = logging.getLogger("fedmq_client.output")
"""What trainers print, line by line, at level DEBUG."""
log = logging.getLogger(__name__)


class OutputFile:
    """The part of one job in its client's file. A job that prints nothing leaves no part.

    A file of more than FILE_BYTES becomes the older one, NAME.1, in place of the one that was there.
    """

    def __init__(self, path: Path, job: Job) -> None:
        self._path = path
        self._job = job
        self._file: BinaryIO | None = None
        self._is_broken = False

    def write(self, data: bytes) -> None:
        """Appends what the job printed, after a line that names the job. A full disk costs the output, not the job."""
        if self._is_broken:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab")
                self._file.write(f"--- {_title(self._job)} ---\n".encode())
            self._file.write(data)
            if self._file.tell() > FILE_BYTES:
                self.close()
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
        except OSError as error:
            self._is_broken = True
            log.warning("the output of %s can't be written to %s: %s", self._job.client.name, self._path, error)

    def flush(self) -> None:
        """Makes what was written visible to readers of the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.flush()

    def close(self) -> None:
        """Ends the part."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def _title(job: Job) -> str:
    session = f"session {job.session}, round {job.round}, " if job.session else ""
    return f"{session}{job.kind}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


class WorkerOutput:
    """Reads what a worker's jobs print, on a thread of its caller.

    Output arrives on a pipe of its own, so that it may be later than the result of its job. Jobs are numbered from 1.
    """

    def __init__(self) -> None:
        self._printed = threading.Condition()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._printed_jobs = 0
        self._outputs: dict[int, str] = {}
        self._files: dict[int, OutputFile] = {}
        self._has_ended = False

    def expect(self, jobs: Iterable[tuple[int, Job]]) -> None:
        """Notes the jobs that are sent next. All earlier ones must have ended: forgets their last lines."""
        with self._printed:
            self._outputs.clear()
            self._files |= {number: OutputFile(job.log, job) for number, job in jobs if job.log is not None}

    def of(self, number: int) -> str:
        """Returns the last lines that this job printed. Waits up to SETTLE_SECONDS until they have all arrived."""
        with self._printed:
            self._printed.wait_for(lambda: self._printed_jobs >= number or self._has_ended, SETTLE_SECONDS)
            return self._outputs.get(number, "") if self._printed_jobs >= number else self._tail()

    def end(self) -> None:
        """Makes `of` wait no longer: the worker has ended."""
        with self._printed:
            self._has_ended = True
            self._printed.notify_all()

    def read(self, pipe: int) -> None:
        """Reads until the worker and all its children have closed the pipe."""
        rest = b""
        while data := os.read(pipe, wire.PIPE_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            with self._printed:
                for line in lines:
                    self._add(line, b"\n")
                while len(rest) > LINE_BYTES:
                    self._add(rest[:LINE_BYTES], b"")
                    rest = rest[LINE_BYTES:]
                self._flush()
                self._printed.notify_all()
        with self._printed:
            if rest:  # of a worker that was killed in the middle of a line
                self._add(rest, b"\n")
            for file in self._files.values():
                file.close()

    def _add(self, raw: bytes, end: bytes) -> None:
        """Adds a line, or with an empty `end` a piece of a long one."""
        is_end = raw.endswith(END_OF_OUTPUT)
        if is_end:
            raw = raw[: -len(END_OF_OUTPUT)]
        file = self._files.get(self._printed_jobs + 1)
        if raw or not is_end:
            line = raw[:LINE_BYTES].decode(errors="replace").rstrip("\r").rpartition("\r")[2]
            if not BANNER.match(line):
                self._lines.append(line)
            if file is not None:
                file.write(raw + end)
            output_log.debug("%s", line)
        if is_end:
            if file is not None:
                file.close()
            self._printed_jobs += 1
            self._files.pop(self._printed_jobs, None)
            if self._lines:
                self._outputs[self._printed_jobs] = self._tail()
                self._lines.clear()

    def _flush(self) -> None:
        file = self._files.get(self._printed_jobs + 1)
        if file is not None:
            file.flush()

    def _tail(self) -> str:
        return "\n".join(self._lines)


def with_output(traceback: str, output: str) -> str:
    """Returns the traceback, followed by the end of what the job printed, so that a message can hold both."""
    if not output:
        return traceback
    output = "\n".join(output.split("\n")[-SHOWN_LINES:])
    end = f"{traceback[-TRACEBACK_CHARACTERS:]}{OUTPUT_HEADING}\n"
    return f"{end}{output[len(end) + 1 - LONGEST_TRACEBACK :]}\n"
