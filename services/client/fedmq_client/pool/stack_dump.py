"""The stack of a worker's main thread, also while C code there holds the interpreter's lock.

No Python code of the worker can run then. A signal makes Python's faulthandler write the stacks of all threads from C, to
a file that pool and worker share. The worker's listening thread receives the signal: in the main thread it would interrupt
the trainer's system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from fedmq_client.job.place import DUMPED_FRAME, own_path

_OFFSET_OF_SIGNAL = 3
"""Below the last real-time signal. Programs rarely use these, so a trainer does not replace the handler."""


class StackDump:
    """The pool's end: the file, and the threads of the worker that is to write it. Linux only; elsewhere it stays empty."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`
        self._lock = threading.Lock()
        """Held while the file is used, as another thread closes it."""
        self._threads: tuple[int, int, int] | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file's descriptor, which the worker inherits under the same number; empty where there are no dumps."""
        return (self._file.fileno(),) if sys.platform == "linux" else ()

    def expect(self, process: int, listening: int, main: int) -> None:
        """Notes the worker's process, its listening thread as the system numbers it, and its main thread as Python does."""
        self._threads = process, listening, main

    def request(self) -> None:
        """Discards the last dump and makes the worker write another one, soon."""
        with self._lock:
            if self._threads is None or not self.descriptors:
                return
            process, listening, _ = self._threads
            self._file.seek(0)  # worker and pool share the position
            self._file.truncate()
            with contextlib.suppress(AttributeError):  # of a C library without tgkill
                ctypes.CDLL(None).tgkill(process, listening, _signal())

    def place(self, package: Path) -> str:
        """Returns the innermost call of the package's own code, such as `trainer.py:18 in train`; empty if unknown."""
        with self._lock:
            if self._threads is None:
                return ""
            main = self._threads[2]
            dump = os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)
        return place_in_dump(dump.decode(errors="replace"), main, package)

    def close(self) -> None:
        """Deletes the file. The worker has ended: no further dump is requested, and no place is known."""
        with self._lock:
            self._threads = None
            self._file.close()


def place_in_dump(dump: str, thread: int, package: Path) -> str:
    """Returns the innermost call of the package's own code in the stack of `thread`; empty if there is none.

    faulthandler writes the most recent call first. A dump may end in the middle of a line, which is not read.
    """
    whole, _, _ = dump.rpartition("\n")
    _, _, after = whole.partition(f"0x{thread:016x} ")
    calls, _, _ = after.partition("\n\n")
    for file, line, name in DUMPED_FRAME.findall(calls):
        if (path := own_path(package, file)) is not None:
            return f"{path}:{line} in {name}"
    return ""


def write_on_signal(descriptor: int) -> None:
    """Makes this process, a worker, write the stacks of its threads to a file whenever the pool requests them."""
    os.set_inheritable(descriptor, False)
    faulthandler.register(_signal(), descriptor, all_threads=True)


def threads(listening: threading.Thread) -> list[int]:
    """Returns what the pool must know of this process's threads to request a dump and to read it."""
    return [listening.native_id or 0, threading.main_thread().ident or 0]


def _signal() -> int:
    return int(signal.SIGRTMAX) - _OFFSET_OF_SIGNAL
