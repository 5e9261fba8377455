"""A worker process: `python -m fedmq_client.pool.worker`. Only a ProcessPool starts it.

Jobs arrive on standard input and results leave on standard output. Both are moved away before a trainer's code runs:
what a trainer prints goes to standard error, which the pool keeps. One job runs at a time, in the main thread. The
worker ends, with all its children, as soon as its parent has ended.
"""

import contextlib
import ctypes
import faulthandler
import io
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from fedmq_client.job import process_state
from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.job.place import place_in
from fedmq_client.job.run import Hooks, run
from fedmq_client.job.trainers import Trainers
from fedmq_client.pool import stack_dump, wire

END_OF_OUTPUT = b"\0end of job\0"
"""Ends the line that follows all output of a job."""

_PR_SET_PDEATHSIG = 1


class _Worker:
    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.jobs: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        self.cancelled: set[int] = set()
        self.trainers = Trainers(process_state.read())
        self._running: tuple[int, Job] | None = None
        self._progress: tuple[float, dict[str, Any]] = (0.0, {})
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Reads messages until the parent has ended, then ends this process."""
        reader = wire.JobReader()
        for message in wire.receive(self.incoming):
            if "cancel" in message:
                self.cancelled.add(message["cancel"])
            elif "locate" in message:
                self._locate(message["locate"])
            else:
                self.jobs.put((message["number"], reader.job(message["job"])))
        _end_with_children()

    def serve(self, listening: threading.Thread) -> None:
        """Runs one job after another, until a trainer has spoilt this process. `listening`: the thread of `listen`."""
        flush_c = _c_flush()
        self._send({"ready": stack_dump.threads(listening)})
        while not self.trainers.spoilt:
            number, job = self.jobs.get()
            if number in self.cancelled:
                result = Result(job.id, "cancelled", reason="cancelled")
            else:
                self._running, self._progress = (number, job), (0.0, {})
                # No key press reaches this process: a KeyboardInterrupt is one that the trainer raised.
                result = run(job, self.trainers, self._hooks(number, job), failures=(BaseException,))
                self._running = None
            self.cancelled.discard(number)
            # The trainer may have closed them, and its result counts all the same.
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
                flush_c()
            with contextlib.suppress(OSError):
                os.write(2, END_OF_OUTPUT + b"\n")
            self._send({"result": result, "number": number, "spoilt": ", ".join(self.trainers.spoilt)})

    def _locate(self, number: int) -> None:
        """Repeats the running job's progress, with the place where its code is. A trainer may hold up the answer."""
        running, frame = self._running, sys._current_frames().get(threading.main_thread().ident or 0)
        if running is not None and running[0] == number and frame is not None:
            place = place_in(running[1].package, frame)
            self._send({"progress": [running[1].id, *self._progress, place], "number": number})

    def _send(self, message: wire.PoolMessage) -> None:
        with self._sending:  # a trainer's own threads report too
            wire.send(self.outgoing, message)

    def _hooks(self, number: int, job: Job) -> Hooks:
        def validated(validated: Validated) -> None:
            self._send({"validated": validated, "number": number})

        def progress(fraction: float, metrics: dict[str, Any]) -> None:
            self._progress = fraction, metrics
            self._send({"progress": [job.id, fraction, metrics, ""], "number": number})

        return Hooks(validated, progress, lambda: number in self.cancelled)


def main() -> None:
    """Serves until the parent closes standard input or ends, or this process is spoilt."""
    _die_with_parent()
    incoming, outgoing = _take_streams()
    faulthandler.enable()  # where the trainer was when C code crashed, for its output file
    for descriptor in sys.argv[1:]:
        stack_dump.write_on_signal(int(descriptor))
    worker = _Worker(incoming, outgoing)
    listening = threading.Thread(target=worker.listen, name="fedmq-listen", daemon=True)
    listening.start()
    worker.serve(listening)


def _c_flush() -> Callable[[], object]:
    """Returns what writes the buffers of C code's standard streams, whose output would else reach the next job's part."""
    if sys.platform == "win32":
        return lambda: None
    flush = ctypes.CDLL(None).fflush
    return lambda: flush(None)


def _take_streams() -> tuple[int, int]:
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return incoming, outgoing


def _die_with_parent() -> None:
    """Makes Linux kill this process with its parent's thread, also while a trainer holds the interpreter's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_children() -> None:
    # The pool made this process the leader of its group.
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
