"""Handles signals without interrupting the main thread in the middle of a library's code.

An exception that a signal handler raises leaves locks of the main thread taken, and a lock that a handler takes may be
held by the main thread just then. So the handler here does next to nothing: the callback runs on a thread of its own,
which may take locks like any other thread.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_END = b"\0"


@contextmanager
def on_first_signal(numbers: Sequence[int], callback: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first of the signals `numbers` calls `callback` on a thread of its own.

    The second signal has the system's default action: it kills the process. For the main thread only.

    The interpreter writes each signal into a socket, whichever thread the kernel delivers it to. Without the socket, a
    main thread that waits for a lock would not notice a signal that another thread received. A pipe would do on POSIX
    systems; Windows writes signals to sockets.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def wait() -> None:
        if reading.recv(1) != _END:
            callback()

    def on_signal(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    thread = threading.Thread(target=wait, name="fedmq-signals", daemon=True)
    thread.start()
    descriptor = signal.set_wakeup_fd(writing.fileno())
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        writing.send(_END)
        thread.join()
        reading.close()
        writing.close()
