"""A trainer that raises, hangs or dies costs its own job, and no other one."""

import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.pool.runner import MODEL, PATIENCE, Runner, alive
from fedmq.errors import ConfigError
from fedmq_client.checks import GIVE_A_FILE
from fedmq_client.job.job import JobKind
from fedmq_client.pool import processes
from fedmq_client.pool.pooled_jobs import PooledJob, starved
from fedmq_client.pool.processes import ProcessPool
from support.waiting import until

REMEDY = "; if trainers are only slow, raise `timeout`"


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        (
            "exit",
            "the worker process ended with exit code 3 in train of trainer.py: find what ends the process there, such as "
            "os._exit or C code",
        ),
        (
            "kill",
            "the worker process was killed by SIGKILL (out of memory?) in train of trainer.py: use less memory there, or "
            "fewer workers",
        ),
    ],
)
def test_a_worker_that_dies_costs_its_job_and_is_started_again(runner: Runner, do: str, reason: str) -> None:
    runner.works()
    before = runner.pool.worker_pids()
    result = runner.run(do)
    assert (result.outcome, result.reason) == ("failed", reason)
    if do == "exit":
        assert "leaving" in result.traceback
    runner.works()
    assert runner.pool.worker_pids() != before


def test_the_end_of_a_worker_in_init_names_init(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INIT", "exit")
    pool = ProcessPool(1)
    try:
        own = Runner(pool, runner.package)
        result = own.start(replace(own.job(), kind="init", model=None))()
    finally:
        pool.close()
    words = "the worker process ended with exit code 0 in init of trainer.py: find what ends the process there"
    assert result.outcome == "failed" and result.reason.startswith(words)


@pytest.mark.parametrize(
    ("kind", "validate", "is_validated", "method"),
    [
        ("train", True, False, "validate or train"),
        ("train", True, True, "train"),
        ("validate", False, False, "validate"),
        ("compare", False, False, "init"),
        ("describe", False, False, "the import or the constructor"),
    ],
)
def test_a_job_names_the_methods_that_it_may_be_in(
    runner: Runner, kind: JobKind, validate: bool, is_validated: bool, method: str
) -> None:
    job = replace(runner.job(), kind=kind, validate=validate)
    pooled = PooledJob(job, lambda _: None, lambda *_: None, lambda _: None, ends=2.0, is_validated=is_validated)
    assert pooled.method == f"{method} of trainer.py"


def test_the_end_of_a_worker_is_warned_of_only_if_no_result_reports_it(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    runner.run("exit")
    runner.works()
    assert not caplog.messages
    (pid,) = runner.pool.worker_pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: runner.pool.worker_pids() not in ([], [pid]), "another worker")
    assert caplog.messages == ["worker 0 was killed by SIGKILL (out of memory?); starting it again"]


def test_an_idle_worker_that_is_killed_is_started_again(runner: Runner) -> None:
    runner.works()
    (pid,) = runner.pool.worker_pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: runner.pool.worker_pids() not in ([], [pid]), "another worker")
    runner.works()


def test_sys_exit_in_a_trainer_is_a_failure_and_not_the_end_of_the_worker(runner: Runner) -> None:
    result = runner.run("sys.exit")
    assert (result.outcome, result.reason) == ("failed", "train raised SystemExit: 1")
    runner.works()


def test_a_trainer_that_raises_keyboard_interrupt_fails_and_was_not_killed(runner: Runner) -> None:
    runner.works()
    pids = runner.pool.worker_pids()
    result = runner.run("interrupt")
    assert (result.outcome, result.reason) == ("failed", "train raised KeyboardInterrupt")
    assert "trainer.py" in result.traceback and "fedmq_client" not in result.traceback
    runner.works()
    assert runner.pool.worker_pids() == pids


@pytest.mark.parametrize("do", ["hang", "hold the lock"])
def test_a_trainer_that_hangs_past_its_deadline_is_killed(
    runner: Runner, do: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    caplog.set_level(logging.INFO)
    runner.works()
    result = runner.run(do, timeout=0.3)
    assert result.outcome == "failed" and result.reason.startswith("train took longer than its 0.3 s")
    runner.works()
    assert "worker 0 was killed with its job; starting it again" in caplog.text


def test_where_a_trainer_hangs_is_reported_before_its_deadline(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    runner.works()
    line = (runner.package / "trainer.py").read_text().split("\n").index("                time.sleep(0.01)") + 1
    reports: list[tuple[object, ...]] = []
    result = runner.start(runner.job("hang", timeout=2), on_progress=lambda *report: reports.append(report[1:]))()
    assert reports == [(0.0, {}, f"trainer.py:{line} in train")]
    assert result.reason == f"train took longer than its 2 s; it was in trainer.py:{line} in train{REMEDY}"


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("train", REMEDY),
        ("validate", "; if trainers are only slow, raise `validation_timeout`"),
        ("init", f"; if it is only slow, {GIVE_A_FILE}"),
        ("describe", ""),
    ],
)
def test_the_remedy_for_a_job_that_takes_too_long_is_one_that_there_is(
    runner: Runner, kind: JobKind, remedy: str
) -> None:
    job = replace(runner.job(), kind=kind, timeout=2.0)
    pooled = PooledJob(job, lambda _: None, lambda *_: None, lambda _: None, ends=2.0)
    assert starved(pooled).reason == f"no worker was free within 2 s{remedy}"


@pytest.mark.parametrize(
    ("seconds", "waited", "words"),
    [
        (599.9871, 0.0, "600 s"),
        (1800.0, 0.0, "1800 s"),
        (9.7998, 50.2, "9.8 s (its task had waited 50.2 s behind another one)"),
        (59.0, 1.0, "59 s"),
    ],
)
def test_a_job_that_takes_too_long_states_its_time_and_what_its_task_waited_before(
    runner: Runner, seconds: float, waited: float, words: str
) -> None:
    job = replace(runner.job(), timeout=seconds, waited=waited)
    pooled = PooledJob(job, lambda _: None, lambda *_: None, lambda _: None, ends=2.0)
    assert starved(pooled).reason == f"no worker was free within {words}{REMEDY}"


def test_a_job_that_waits_behind_a_hanging_one_reports_that_before_its_deadline(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    runner.works()
    hanging = runner.start(runner.job("hang", client="c1", timeout=3))
    reports: list[tuple[object, ...]] = []
    late = runner.start(runner.job(client="c2", timeout=2), on_progress=lambda *report: reports.append(report[1:]))()
    assert (late.outcome, late.reason) == ("failed", f"no worker was free within 2 s{REMEDY}")
    assert reports == [(0.0, {}, "the queue for a worker, behind c1")]
    assert hanging().reason.startswith("train took longer than its 3 s; it was in trainer.py")
    runner.works()


def test_a_trainer_that_checks_ends_at_its_deadline_and_keeps_its_worker(runner: Runner) -> None:
    runner.works()
    pids = runner.pool.worker_pids()
    result = runner.run("wait", timeout=0.3)
    assert result.outcome == "failed" and result.reason.startswith("train took longer than its 0.3 s")
    runner.works()
    assert runner.pool.worker_pids() == pids


def test_a_job_that_no_worker_is_free_for_fails_in_time(runner: Runner) -> None:
    busy = runner.start(runner.job("wait", client="c1"))
    late = runner.run(timeout=0.2)
    assert (late.outcome, late.reason) == ("failed", f"no worker was free within 0.2 s{REMEDY}")
    runner.pool.cancel("j1")
    assert busy().outcome == "cancelled"


def test_a_running_job_can_be_cancelled_and_reports_progress(runner: Runner) -> None:
    seen = threading.Event()
    reports: list[tuple[Any, ...]] = []

    def on_progress(*report: Any) -> None:
        reports.append(report)
        seen.set()

    wait = runner.start(runner.job("wait"), on_progress=on_progress)
    assert seen.wait(PATIENCE)
    assert reports[0] == ("j1", 0.5, {"loss": 1.0}, "")
    runner.pool.cancel("j1")
    assert wait().outcome == "cancelled"
    runner.works()


def test_a_cancelled_job_that_does_not_listen_is_killed(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    reported = threading.Event()
    wait = runner.start(runner.job("hang", validate=True), lambda _: reported.set())
    assert reported.wait(PATIENCE)
    runner.pool.cancel("j1")
    assert wait().outcome == "cancelled"
    runner.works()


def test_a_waiting_job_can_be_cancelled(runner: Runner) -> None:
    busy = runner.start(runner.job("wait", client="c1"))
    waiting = runner.start(runner.job())
    runner.pool.cancel("j2")
    assert waiting().outcome == "cancelled"
    runner.pool.cancel("j1")
    runner.pool.cancel("unknown")
    assert busy().outcome == "cancelled"


def test_closing_ends_workers_and_their_children_and_refuses_jobs(package: Path) -> None:
    pool = ProcessPool(1)
    runner = Runner(pool, package)
    grandchild = runner.run("child").examples
    assert grandchild is not None
    runner.start(runner.job("hang"))
    pids = [*pool.worker_pids(), grandchild]
    pool.close()
    pool.close()
    until(lambda: not any(alive(pid) for pid in pids), "the end of all workers")
    with pytest.raises(ConfigError, match="closed"):
        pool.submit(runner.job(), lambda _: None, lambda *_: None, lambda _: None)


@pytest.mark.parametrize("do", ["hang", "wait", "works"])
def test_closing_during_a_job_ends_the_threads(package: Path, do: str) -> None:
    before = set(threading.enumerate())
    pool = ProcessPool(1)
    runner = Runner(pool, package)
    runner.start(runner.job(do, validate=True), lambda _: pool.close())
    until(lambda: set(threading.enumerate()) <= before, "the end of all threads")


PARENT = """
import sys, threading
from pathlib import Path
from fedmq_client.pool.processes import ProcessPool
from fedmq_client import Client
from fedmq_client.job.job import Job

package, model, do = sys.argv[1:]
pool = ProcessPool(2)
begun = threading.Semaphore(0)
for name in ("a", "b"):
    job = Job(name, Client(name), Path(package), "train", config={"do": do}, model=Path(model),
              validate=True)
    pool.submit(job, lambda _: begun.release(), lambda *_: None, print)
begun.acquire()
begun.acquire()
print(*pool.worker_pids(), flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("do", ["hang", "hold the lock"])
def test_workers_do_not_outlive_a_parent_that_is_killed(package: Path, tmp_path: Path, do: str) -> None:
    model = tmp_path / "model"
    model.write_bytes(MODEL)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(package), str(model), do],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    until(lambda: not any(alive(pid) for pid in pids), "the end of all workers")
