"""A trainer's place is reported, although C code that it calls holds the interpreter's lock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.pool.runner import PATIENCE, Runner
from fedmq_client.job.job import JobKind
from fedmq_client.pool import processes
from fedmq_client.pool.awaited import AwaitedJobs
from fedmq_client.pool.process import WorkerProcess
from fedmq_client.pool.processes import ProcessPool
from fedmq_client.pool.stack_dump import place_in_dump
from support.waiting import until

HELD = ", in C code that holds the interpreter"


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)


def _place(runner: Runner, kind: str, which: int = 0) -> str:
    """Returns the place of the call that does not return."""
    lines = (runner.package / "trainer.py").read_text().split("\n")
    found = [number for number, line in enumerate(lines, 1) if "PyDLL(None).sleep" in line]
    return f"trainer.py:{found[which]} in {kind}{HELD}"


@pytest.mark.parametrize(
    ("kind", "do", "which"), [("validate", "sleep in C in validate", 1), ("train", "sleep in C", 2)]
)
def test_the_line_that_called_c_code_is_reported_before_the_deadline(
    two_workers: Runner, kind: JobKind, do: str, which: int
) -> None:
    """The workers are shared: only the client whose trainer hangs is reported."""
    two_workers.works()
    two_workers.run(client="c2")
    reports: list[tuple[object, ...]] = []
    job = replace(two_workers.job(do, client="c1", timeout=5), kind=kind)
    end = two_workers.start(job, on_progress=lambda *report: reports.append(report))
    assert two_workers.run(client="c2").outcome == "done"
    result = end()
    assert reports == [(job.id, 0.0, {}, _place(two_workers, kind, which))]
    assert result.reason.startswith(f"{kind} took longer than its 5 s; it was in {_place(two_workers, kind, which)}; ")


def test_the_line_of_init_is_known_while_it_is_awaited(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INIT", "sleep in C")
    pool = ProcessPool(1)
    try:
        jobs = AwaitedJobs(pool)
        jobs.submit(replace(runner.job(timeout=PATIENCE), kind="init", model=None))
        for _ in range(2):  # it is requested anew by each look
            until(lambda: [each.place for each in jobs.look()] == [_place(runner, "init")], "the place")
    finally:
        pool.close()


def test_without_the_stack_the_method_and_its_file_are_reported(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "dump_stack", lambda self: None)  # as where the system can't do that
    runner.works()
    reports: list[object] = []
    runner.start(runner.job("sleep in C", timeout=5), on_progress=lambda *report: reports.append(report[-1]))()
    assert reports == [f"train of trainer.py{HELD}, so the line is unknown"]


def test_a_dump_that_is_not_whole_names_no_wrong_place(runner: Runner) -> None:
    """Another thread's calls, a line of which the end is missing, and calls of other files are none of the trainer's."""
    trainer = runner.package / "trainer.py"
    other = f'Thread 0x{7:016x} (most recent call first):\n  File "{trainer}", line 3 in load\n\n'
    library = f'Thread 0x{8:016x} (most recent call first):\n  File "/usr/lib/library.py", line 4 in call\n'
    own = f'  File "{trainer}", line 18 in helper\n  File "{trainer}", line 20 in train\n'
    whole = other + library + own
    assert place_in_dump(whole, 8, runner.package) == "trainer.py:18 in helper"
    assert place_in_dump(other, 8, runner.package) == ""
    cut = len(other + library) + own.index(" helper") + len(" help")
    assert place_in_dump(whole[:cut], 8, runner.package) == ""
    assert place_in_dump(f"{library}\n{other}", 8, runner.package) == ""
