"""Signals for a process whose main thread must not be interrupted in the middle of a library's code.

An exception raised by a signal handler, and a lock taken by one, meet whatever lock the main thread holds just then. So
the handler here does next to nothing. What a signal is for runs on a thread of its own, which may take locks as any
other thread.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_END = b"\0"


@contextmanager
def on_first_signal(numbers: Sequence[int], callback: Callable[[], None]) -> Iterator[None]:
    """Within the block the first of the signals `numbers` calls `callback` on a thread of its own. The second signal has
    the system's default action: it kills the process. For the main thread only.

    The interpreter writes each signal into a pipe, whichever thread the kernel delivers it to. Nothing else wakes the
    thread: a main thread that waits for a lock does not notice a signal that another thread has received.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait() -> None:
        if os.read(reading, 1) != _END:
            callback()

    def on_signal(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    thread = threading.Thread(target=wait, name="fedmq-signals", daemon=True)
    thread.start()
    descriptor = signal.set_wakeup_fd(writing)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        os.write(writing, _END)
        thread.join()
        os.close(reading)
        os.close(writing)
