"""What a trainer prints, from Python, C or a child, is in its client's file, in the part of its job."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.pool.runner import Runner
from fedmq_client.pool import output, processes
from fedmq_client.pool.crash import crash_in
from fedmq_client.pool.processes import ProcessPool
from support.packages import write_package

PRINTS = """
import ctypes, logging, os, signal, subprocess, sys, threading, time
import numpy as np

def threaded(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

class Trainer:
    def __init__(self, client):
        self.name = client.name

    def train(self, weights, task):
        do = task.config["do"]
        if do == "print":
            print("print", self.name)
            print("stderr", self.name, file=sys.stderr)
            logging.getLogger("mine").warning("log %s", self.name)
            os.write(1, f"descriptor {self.name}\\n".encode())
            os.system(f"echo child {self.name}")
            ctypes.CDLL(None).printf(f"C {self.name}\\n".encode())
        if do == "much":
            for number in range(20):
                print(f"{number:03}" + "x" * 400)
        if do == "no newline":
            print("half a line", end="")
        if do == "kill":
            sys.stdout.write("the last")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if do == "crash below":
            print("before the crash")
            for _ in range(60):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            threaded(lambda: ctypes.string_at(0))
        if do == "print a crash":
            print("Fatal Python error: ", flush=True)
            os._exit(3)
        if do == "crash of a child":
            subprocess.run([sys.executable, "-X", "faulthandler", "-c", "import ctypes; ctypes.string_at(0)"])
            print("after the child", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "much, and raise":
            for number in range(200):
                print(f"{number:03}" + "x" * 100)
            1 / 0
        if do == "hang":
            print("before the hang")
            while True:
                time.sleep(0.01)
        return weights, 1, {}
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    pool = ProcessPool(1)
    yield Runner(pool, write_package(tmp_path / "package", PRINTS))
    pool.close()


def _parts(file: Path) -> list[str]:
    """Returns the file's text without the times of its headings."""
    return re.sub(r", \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC ---", " ---", file.read_text()).splitlines()


def test_everything_that_a_job_prints_is_in_the_file_of_its_client(runner: Runner, tmp_path: Path) -> None:
    for number, client in enumerate(("a", "b", "a"), 1):
        runner.run("print", client=client, session="s1", round=number, log=tmp_path / client / "output.log")
    runner.pool.close()
    lines = {kind: f"{kind} a" for kind in ("print", "stderr", "log", "descriptor", "child", "C")}
    parts = _parts(tmp_path / "a" / "output.log")
    assert [line for line in parts if line.startswith("---")] == [
        "--- session s1, round 1, train ---",
        "--- session s1, round 3, train ---",
    ]
    assert parts[0].startswith("---") and sorted(parts[1:7]) == sorted(lines.values()) == sorted(parts[8:])
    assert not [line for line in _parts(tmp_path / "b" / "output.log") if line.endswith(" a")]


def test_a_job_that_prints_nothing_leaves_no_part(runner: Runner, tmp_path: Path) -> None:
    runner.run("nothing", session="s1", log=tmp_path / "output.log")
    runner.run("no newline", session="s1", round=2, log=tmp_path / "output.log")
    runner.pool.close()
    assert _parts(tmp_path / "output.log") == ["--- session s1, round 2, train ---", "half a line"]


def test_the_output_of_a_worker_that_is_killed_is_kept(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    killed = runner.run("kill", session="s1", log=tmp_path / "output.log")
    assert killed.traceback == "--- last lines of output ---\nthe last\n"
    runner.run("nothing")
    runner.run("hang", session="s1", round=2, timeout=0.5, log=tmp_path / "output.log")
    runner.pool.close()
    assert _parts(tmp_path / "output.log") == [
        "--- session s1, round 1, train ---",
        "the last",
        "--- session s1, round 2, train ---",
        "before the hang",
    ]


def _line(code: str) -> int:
    return 1 + PRINTS.splitlines().index(f"            {code}")


def test_a_crash_in_c_code_says_where_the_trainer_was(runner: Runner, tmp_path: Path) -> None:
    crashed = runner.run("crash", session="s1", log=tmp_path / "output.log")
    line = _line("os.kill(os.getpid(), signal.SIGSEGV)")
    ended = "the worker process was killed by SIGSEGV"
    assert (crashed.reason, crashed.plain) == (f"{ended}; it was in trainer.py:{line} in train", ended)
    assert crashed.frames == f"trainer.py:{line} in train"
    assert crashed.traceback == (
        "Traceback (most recent call last):\n"
        f'  File "{runner.package / "trainer.py"}", line {line}, in train\n'
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "Fatal Python error: Segmentation fault\n"
    )
    assert "Segmentation fault" in (tmp_path / "output.log").read_text()


def test_a_crash_beneath_a_library_and_many_threads_says_where_the_trainer_was(runner: Runner) -> None:
    crashed = runner.run("crash below")
    assert crashed.frames == f"trainer.py:{_line('threaded(lambda: ctypes.string_at(0))')} in <lambda>"
    lines = crashed.traceback.splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "before the crash")
    assert any("ctypes" in line for line in lines) and not any("fedmq_client" in line for line in lines), lines


def test_a_traceback_is_kept_of_a_trainer_that_prints_much(runner: Runner) -> None:
    failed = runner.run("much, and raise")
    assert failed.traceback.startswith("Traceback (most recent call last):\n") and len(failed.traceback) == 8_000
    assert "ZeroDivisionError: division by zero\n--- last lines of output ---\n" in failed.traceback
    assert failed.traceback.endswith(f"\n199{'x' * 100}\n")


def test_a_file_is_bounded_and_one_older_one_is_kept(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "FILE_BYTES", 1_000)
    runner.run("much", session="s1", log=tmp_path / "output.log")
    runner.pool.close()
    newest, older = (tmp_path / "output.log"), (tmp_path / "output.log.1")
    assert sorted(path.name for path in tmp_path.glob("output*")) == ["output.log", "output.log.1"]
    assert max(newest.stat().st_size, older.stat().st_size) < 1_500
    lines = [line[:3] for line in (*_parts(older), *_parts(newest))]
    assert lines == ["---", "015", "016", "017", "---", "018", "019"]


def test_a_file_that_cant_be_written_costs_no_job(
    runner: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert runner.run("print", session="s1", log=tmp_path / "file" / "output.log").outcome == "done"
    runner.pool.close()
    assert caplog.text.count("the output of c0 can't be written") == 1


def test_the_crash_of_another_process_is_none_of_the_worker(runner: Runner) -> None:
    printed = runner.run("print a crash")
    assert printed.reason == (
        "the worker process ended with exit code 3 in train of trainer.py: find what ends the process there, such as "
        "os._exit or C code"
    )
    child = runner.run("crash of a child")
    assert child.reason == (
        "the worker process was killed by SIGKILL (out of memory?) in train of trainer.py: use less memory there, or "
        "fewer workers"
    )
    assert "Segmentation fault" in child.traceback and child.traceback.endswith("after the child\n")
    runner.works()


def test_a_crash_reads_no_file_but_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret\n")
    package = write_package(tmp_path / "package", "")
    names = ("/a\x00b", str(tmp_path / "secret"))
    lines = "".join(f'  File "{name}", line 1 in f\n' for name in names)
    found = crash_in(f"Fatal Python error: x\n\nCurrent thread 1 (most recent call first):\n{lines}", package)
    assert found is not None and found.places == []
    assert "a secret" not in found.traceback and "secret" in found.traceback
