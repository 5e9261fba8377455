"""Ctrl-C while a verb is inside a library's lock, and what it leaves behind."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from support.packages import write_package
from support.waiting import until

DEADLINE = 30
FEDMQ = [sys.executable, "-m", "fedmq_cli.app"]
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"
"""What a terminal is sent for its cursor."""
ANSWER = {
    "session": "one",
    "state": "queued",
    "policy": {"rounds": 1},
    "model": "first",
    "base": None,
    "ref": {"sha256": None},
}
INSIDE_A_LOCK = """
import os, queue, signal, sys, threading
import urllib3.connectionpool

requests = int(sys.argv.pop(1))

class Interrupting(threading.Condition):
    def __exit__(self, *error):
        global requests
        requests -= 1
        if requests == 0:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(30)  # else the verb may go on before the signal is handled
        return super().__exit__(*error)

class Connections(queue.LifoQueue):
    def __init__(self, maxsize):
        super().__init__(maxsize)
        self.not_empty = Interrupting(self.mutex)

urllib3.connectionpool.HTTPConnectionPool.QueueCls = Connections
from fedmq_cli.app import main
main()
"""
"""The command, which gets SIGINT when its `argv[1]`-th request takes a connection from urllib3's pool, in the instant
before the pool's lock is released."""


STUCK = """
import os, signal, threading
from fedmq_cli.interruption import calling, end_by_interrupt, interruptible

def cleanup():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

@interruptible
def verb():
    with calling(cleanup):
        signal.raise_signal(signal.SIGINT)
        threading.Event().wait()

end_by_interrupt()
verb()
"""
"""The verb's own thread receives the first signal, which the kernel may choose to do; the cleanup sends the second."""
IGNORED = """
import os, signal
from fedmq_cli.interruption import end_by_interrupt, interruptible

signal.signal(signal.SIGINT, signal.SIG_IGN)
end_by_interrupt()
interruptible(lambda: os.kill(os.getpid(), signal.SIGINT))()
print("done")
"""

ENDLESS = """
import numpy as np
from pathlib import Path

class Trainer:
    def __init__(self, client): ...

    def init(self):
        return {"w": np.zeros(2, np.float32)}

    def train(self, weights, task):
        Path(BEGAN).touch()
        while True:
            pass
"""


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server that knows one session, in which nothing ever happens, and one model, whose bytes never end."""
    ended = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.partition("?")[0].endswith(("/stream", "/download")):
                self._answer()
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\n:\n\n\r\n")
            ended.wait()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer()

        def _answer(self) -> None:
            data = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        ended.set()
        server.shutdown()


@pytest.mark.parametrize(
    ("words", "request_number", "printed"),
    [
        ("start --id one --follow", 1, "fedmq: interrupted"),
        ("start --id one --follow", 2, "session one continues; to end it: fedmq stop one --url {url}"),
        ("start --id one --follow", 4, "session one continues; to end it: fedmq stop one --url {url}"),
        ("events --follow", 1, "no longer followed; running sessions continue. next: fedmq status --url {url}"),
        ("events one --follow", 3, "no longer followed; running sessions continue. next: fedmq status --url {url}"),
        ("status", 1, "fedmq: interrupted"),
    ],
)
def test_an_interrupt_while_a_connection_is_taken_from_the_pool_ends_the_verb(
    url: str, words: str, request_number: int, printed: str
) -> None:
    command = [sys.executable, "-c", INSIDE_A_LOCK, str(request_number), *words.split(), "--url", url]
    with _running(command) as process:
        _, complaint = process.communicate(timeout=DEADLINE)
    assert (process.returncode, complaint.strip()) == (130, printed.format(url=url))


def test_a_model_that_has_come_in_part_is_deleted(url: str, tmp_path: Path) -> None:
    with _running([*FEDMQ, "model", "get", "first", "--out", str(tmp_path), "--url", url]) as process:
        ends = time.monotonic() + DEADLINE
        while not any(path.is_file() for path in tmp_path.rglob("*")):
            assert process.poll() is None and time.monotonic() < ends
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=DEADLINE)
    assert (process.returncode, complaint) == (130, "fedmq: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_the_live_table_gives_the_terminal_its_cursor_back(url: str) -> None:
    ours, theirs = pty.openpty()
    with _running([*FEDMQ, "start", "--id", "one", "--follow", "--url", url], stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while HIDDEN not in shown:
            assert select.select([ours], [], [], DEADLINE)[0], shown
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=DEADLINE)
    assert (process.returncode, "session one continues" in complaint) == (130, True)
    assert SHOWN in _rest(ours)


def test_the_second_ctrl_c_ends_a_process_whose_cleanup_does_not_end() -> None:
    with _running([sys.executable, "-c", STUCK]) as process:
        process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGINT


def test_a_trainer_that_never_ends_in_this_process_does_not_keep_ctrl_c_from_ending_the_run(tmp_path: Path) -> None:
    began = tmp_path / "began"
    package = write_package(tmp_path / "endless", f"BEGAN = {str(began)!r}\n{ENDLESS}")
    words = ["sandbox", "--package", str(package), "--clients", "1", "--workers", "0", "--state-dir", "run"]
    with _running([*FEDMQ, *words], cwd=tmp_path) as process:
        until(began.exists, "the trainer begins")
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert re.fullmatch(
        r"client1's trainer is in trainer\.py:1[45] in train\ninterrupted; to go on: fedmq sandbox --package .+\n",
        complaint,
    )


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    with _running([sys.executable, "-c", IGNORED]) as process:
        printed, _ = process.communicate(timeout=DEADLINE)
    assert (process.returncode, printed) == (0, "done\n")


@contextmanager
def _running(
    command: list[str], stdout: int = subprocess.PIPE, cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _rest(terminal: int) -> bytes:
    """All that is left to read from a terminal whose program has ended."""
    found = b""
    with suppress(OSError):  # EIO: nobody has it open any more
        while piece := os.read(terminal, 4096):
            found += piece
    os.close(terminal)
    return found
