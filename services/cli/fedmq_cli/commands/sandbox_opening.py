"""Opens a sandbox for `fedmq sandbox`, with what signals do: Ctrl-C ends the training, and names a trainer that hangs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fedmq.visible import visible
from fedmq_cli.again import same_command
from fedmq_cli.interruption import calling, leave, raising_in_trainers, saying

if TYPE_CHECKING:
    from fedmq_sandbox import Sandbox

STUCK_SECONDS = 3.0
"""Time after Ctrl-C for a trainer in this process to end. Nothing can stop it, so the process ends without it."""


def folder_of(box: Sandbox) -> Path:
    """Returns the folder where the command keeps everything."""
    assert box.options.state_dir is not None
    return box.options.state_dir


def last_words(box: Sandbox) -> str:
    """Returns what Ctrl-C prints in the end: how the session goes on."""
    return f"interrupted; to go on: {same_command(folder_of(box))}"


@contextmanager
def opened(box: Sandbox) -> Iterator[Sandbox]:
    """Opens and closes `box`, with logs in its folder. Ctrl-C and SIGTERM end the training; a second one the process.

    If a trainer in this process does not end, the process does after 3 s, with the same last words and the trainer's place.
    Under `--debug`, where the main thread runs the trainers, Ctrl-C raises KeyboardInterrupt in one.
    """
    from fedmq.process.signals import on_first_signal
    from fedmq_cli.awaiting import place_text
    from fedmq_cli.logs import logged_to

    stuck = threading.Timer(STUCK_SECONDS, leave)
    stuck.daemon = True

    def interrupt() -> None:
        box.interrupt()
        if not box.options.workers:
            stuck.start()

    def where(frame: FrameType | None = None) -> str:
        running = box.running(frame)
        return "" if running is None else place_text(running)

    def say_where() -> None:
        if text := where():
            os.write(2, f"{visible(text)}\n".encode())  # `sys.stderr` has a lock

    signals = [signal.SIGINT, signal.SIGTERM]
    with (
        ExitStack() as logs,
        saying(last_words(box)),
        calling(say_where),
        raising_in_trainers(where, box.interrupt) if box.options.debug else on_first_signal(signals, interrupt),
        box,
    ):
        logs.callback(stuck.cancel)
        logs.enter_context(logged_to(folder_of(box) / "sandbox.log"))
        yield box
