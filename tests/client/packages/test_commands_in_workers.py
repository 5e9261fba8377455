"""Commands in worker processes end with their task, their worker and their client."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.packages.commanding import BLOB, job, made
from client.pool.runner import Runner, alive
from fedmq_client.pool.processes import ProcessPool
from support.waiting import until

FAMILY = """
entry_points:
  train: 'echo line$((1+1)); (sleep 600 & echo $! > child; wait); true'
"""


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    pool = ProcessPool(1, device="cpu")
    yield pool
    pool.close()


def _child(folder: Path) -> int:
    """The process that a command started, once it runs."""
    file = folder / "child"
    return until(lambda: int(file.read_text().strip() or 0) if file.exists() else 0, "the command has not started")


def _assert_it_ends(pid: int) -> None:
    until(lambda: not alive(pid), "a process of the command lives on")


def test_a_failure_tells_what_was_printed_last(tmp_path: Path, pool: ProcessPool) -> None:
    folder = made(tmp_path, "entry_points: {train: 'seq 1 300; echo gone >&2; exit 7; :'}")
    wait = Runner(pool, folder).start(job(folder))
    result = wait()
    assert "ended with exit code 7" in result.reason
    lines = result.traceback.splitlines()
    assert lines[-1] == "gone"
    assert lines[-2] == "300"
    assert "201" not in lines and "202" in lines


def test_cancelling_ends_a_command_and_all_that_it_started(tmp_path: Path, pool: ProcessPool) -> None:
    folder = made(tmp_path, FAMILY)
    wait = Runner(pool, folder).start(job(folder))
    child = _child(folder)
    before = pool.worker_pids()
    pool.cancel("j")
    assert wait().outcome == "cancelled"
    _assert_it_ends(child)
    assert pool.worker_pids() == before


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, pool: ProcessPool) -> None:
    folder = made(tmp_path, FAMILY)
    result = Runner(pool, folder).start(job(folder, timeout=3.0))()
    assert result.outcome == "failed"
    assert "longer than" in result.reason
    _assert_it_ends(_child(folder))


def test_a_killed_worker_takes_its_command_along(tmp_path: Path, pool: ProcessPool) -> None:
    folder = made(tmp_path, FAMILY)
    wait = Runner(pool, folder).start(job(folder))
    child = _child(folder)
    os.kill(pool.worker_pids()[0], signal.SIGKILL)
    assert "was killed by SIGKILL" in wait().reason
    _assert_it_ends(child)


def test_a_killed_client_takes_its_command_along(tmp_path: Path) -> None:
    folder = made(tmp_path, FAMILY)
    code = f"""
import sys, time
from pathlib import Path
from fedmq_client import Client
from fedmq_client.job.job import Job
from fedmq_client.pool.processes import ProcessPool
if __name__ == "__main__":
    pool = ProcessPool(1, device="cpu")
    job = Job("j", Client("c"), Path({str(folder)!r}), "train", model=Path({str(tmp_path / "model")!r}))
    pool.submit(job, print, print, print)
    time.sleep(600)
"""
    (tmp_path / "model").write_bytes(BLOB)
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        child = _child(folder)
    finally:
        process.kill()
        process.wait()
    _assert_it_ends(child)
