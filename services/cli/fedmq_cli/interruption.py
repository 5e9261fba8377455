"""Ctrl-C without an exception in the middle of a library's code.

Python's own handler raises KeyboardInterrupt in the main thread at whatever instruction it executes. Between taking a
lock and releasing it (urllib3's connection pool, logging) the exception leaves the lock taken, and the cleanup that
follows waits for that lock forever. So no handler here raises, and no handler here takes a lock:

- A verb runs on a thread of its own (`interruptible`). The main thread only waits for the verb's end or for the signal.
- After the signal the main thread runs the callbacks of `calling`. The verb's thread is still running then and releases
  every lock that a callback needs. The process ends by `os._exit`, which takes no lock and waits for no thread.
- Where the main thread does other work (parsing, imports, the start of a role), the handler ends the process itself.

The second Ctrl-C has the system's default action: it kills the process. Both differ where the main thread runs a trainer,
for a person who debugs it (`raising_in_trainers`).
"""

from __future__ import annotations

import functools
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from fedmq.process.signals import on_first_signal
from fedmq_cli.output import INTERRUPTED

P = ParamSpec("P")
T = TypeVar("T")
_words = ["fedmq: interrupted"]
_callbacks: list[Callable[[], None]] = []


def end_by_interrupt() -> None:
    """Makes Ctrl-C end this process. The entry point calls it once.

    Without it, as in tests, verbs are plain functions that KeyboardInterrupt may end. An ignored SIGINT (a shell's
    background job) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_now)


@contextmanager
def saying(words: str) -> Iterator[None]:
    """Makes Ctrl-C within the block end the process with `words` on stderr."""
    _words.append(words)
    try:
        yield
    finally:
        _words.remove(words)


@contextmanager
def calling(callback: Callable[[], None]) -> Iterator[None]:
    """Makes Ctrl-C within the block call `callback` on the main thread before the process ends, the newest one first.

    `callback` must be idempotent and safe beside the verb's thread, which continues to run. It must return soon.
    """
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def interruptible(verb: Callable[P, T]) -> Callable[P, T]:
    """Returns `verb` run on a thread of its own, while the main thread waits for its end or for Ctrl-C.

    For verbs that set no signal handlers themselves. Without `end_by_interrupt` it is a plain call.
    """

    @functools.wraps(verb)
    def run(*args: P.args, **options: P.kwargs) -> T:
        if signal.getsignal(signal.SIGINT) is not _end_now:
            return verb(*args, **options)
        first: queue.SimpleQueue[Future[T] | None] = queue.SimpleQueue()

        def work() -> None:
            ended: Future[T] = Future()
            try:
                ended.set_result(verb(*args, **options))
            except BaseException as error:  # raised again on the main thread
                ended.set_exception(error)
            first.put(ended)

        with on_first_signal([signal.SIGINT], lambda: first.put(None)):
            threading.Thread(target=work, name="fedmq-verb", daemon=True).start()
            ended = first.get()
            if ended is None:
                leave()
        return ended.result()

    return run


@contextmanager
def raising_in_trainers(where: Callable[[FrameType], str], stop: Callable[[], None]) -> Iterator[None]:
    """Makes Ctrl-C within the block raise KeyboardInterrupt where the main thread runs a trainer, as in any script.

    - `where`: returns the place of the trainer whose thread is at a frame, or "" if none runs. It is the exception's text.
    - `stop`: called by the first Ctrl-C while no trainer runs, and by SIGTERM, on a thread of its own.
    - At the prompt of a debugger, each Ctrl-C raises: the debugger handles the exception.
    - Otherwise a second signal ends the process as `leave` does, since a trainer may catch the first one's exception.
    """
    requests: queue.SimpleQueue[bool] = queue.SimpleQueue()  # a handler may put: it takes no lock of Python
    has_come = False

    def wait() -> None:
        while requests.get():
            stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal has_come
        is_key = number == signal.SIGINT
        if is_key and _is_at_prompt(frame):
            raise KeyboardInterrupt
        if has_come:
            leave()
        has_come = True
        if is_key and frame is not None and (place := where(frame)):
            raise KeyboardInterrupt(place)
        requests.put(True)

    thread = threading.Thread(target=wait, name="fedmq-signals", daemon=True)
    thread.start()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        requests.put(False)
        thread.join()


def leave() -> NoReturn:
    """Runs the callbacks of `calling`, prints the words of `saying`, and ends the process. For any thread."""
    try:
        for callback in reversed(_callbacks.copy()):
            callback()
    finally:
        _exit()


def _is_at_prompt(frame: FrameType | None) -> bool:
    """Returns whether the code at `frame` reads a command for pdb, or for a debugger that is derived from it."""
    while frame is not None and frame.f_code.co_name != "cmdloop":
        frame = frame.f_back
    return frame is not None


def _end_now(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    _exit()


def _exit() -> NoReturn:
    """Ends the process. Writes to the file descriptor, because `sys.stderr` has a lock."""
    with suppress(OSError):
        os.write(2, f"{_words[-1]}\n".encode())
    os._exit(INTERRUPTED)
