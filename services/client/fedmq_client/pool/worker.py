"""A worker process: `python -m fedmq_client.pool.worker`, started by a ProcessPool and by nobody else.

Rules. Jobs come on standard input and results leave on standard output; both are taken away from
the trainer before its code runs, and what it prints goes to standard error, which the pool keeps.
One job runs at a time, in the main thread. The worker ends, with all its children, as soon as its
parent is gone.
"""

import ctypes
import io
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.job.run import Hooks, Trainers, run
from fedmq_client.pool import wire

END_OF_OUTPUT = b"\0end of job\0"
"""Ends the line that follows all output of a job."""

_PR_SET_PDEATHSIG = 1


class _Worker:
    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.cancelled: set[str] = set()
        self.taken_back: set[str] = set()
        self.trainers = Trainers()
        self._saying = threading.Lock()

    def listen(self) -> None:
        reader = wire.JobReader()
        for messages in wire.receive(self.incoming):
            for message in messages:
                if "cancel" in message:
                    self.cancelled.add(message["cancel"])
                elif "take_back" in message:
                    self.taken_back.add(message["take_back"])
                elif (job := reader.read(message)) is not None:
                    self.taken_back.discard(job.id)
                    self.jobs.put(job)
        _end_with_children()

    def serve(self) -> None:
        self._say({"ready": True})
        while True:
            job = self.jobs.get()
            if job.id in self.taken_back:
                continue
            began = time.monotonic()
            if job.id in self.cancelled:
                result = Result(job.id, "cancelled", reason="cancelled")
            else:
                result = run(job, self.trainers, self._hooks(job))
            self.cancelled.discard(job.id)
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(2, END_OF_OUTPUT + b"\n")
            self._say({"job": job.id, "result": result, "took": time.monotonic() - began})

    def _say(self, message: wire.PoolMessage) -> None:
        data = wire.encoded(message)
        with self._saying:  # a trainer's own threads report too
            wire.send(self.outgoing, data)

    def _hooks(self, job: Job) -> Hooks:
        def validated(validated: Validated) -> None:
            self._say({"job": job.id, "validated": validated})

        def progress(fraction: float, metrics: dict[str, Any]) -> None:
            self._say({"job": job.id, "progress": [fraction, metrics]})

        return Hooks(validated, progress, lambda: job.id in self.cancelled)


def main() -> None:
    """Serve until the parent closes standard input or dies."""
    _die_with_parent()
    incoming, outgoing = _take_streams()
    worker = _Worker(incoming, outgoing)
    threading.Thread(target=worker.listen, name="fedmq-listen", daemon=True).start()
    worker.serve()


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
    """On Linux the kernel kills this process with the parent's thread that started it, even when
    a trainer holds the interpreter's lock; elsewhere the end of standard input has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_children() -> None:
    """The pool made this process the leader of its group."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
