"""The first signal calls back, whichever thread receives it; the second one kills the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from fedmq.process.signals import on_first_signal

DEADLINE = 30
TWICE = """
import os, signal, threading
from fedmq.process.signals import on_first_signal

called = threading.Event()
with on_first_signal([signal.SIGINT, signal.SIGTERM], called.set):
    os.kill(os.getpid(), signal.SIGINT)
    called.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()
"""


def test_a_signal_that_another_thread_receives_calls_back_while_the_main_thread_waits() -> None:
    called = threading.Event()
    with on_first_signal([signal.SIGUSR1], called.set):
        threading.Thread(target=signal.raise_signal, args=(signal.SIGUSR1,)).start()
        assert called.wait(DEADLINE)


def test_the_callback_may_take_a_lock_that_the_interrupted_thread_holds() -> None:
    lock, called = threading.Lock(), threading.Event()

    def locking() -> None:
        with lock:
            called.set()

    with on_first_signal([signal.SIGUSR1], locking):
        with lock:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert called.wait(DEADLINE)


def test_without_a_signal_nothing_is_called_and_the_handlers_are_as_before() -> None:
    called = threading.Event()
    before = signal.getsignal(signal.SIGUSR1)
    with on_first_signal([signal.SIGUSR1], called.set):
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert (signal.getsignal(signal.SIGUSR1), called.is_set()) == (before, False)
    assert "fedmq-signals" not in {thread.name for thread in threading.enumerate()}


def test_the_second_signal_kills_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], timeout=DEADLINE)
    assert done.returncode == -signal.SIGTERM
