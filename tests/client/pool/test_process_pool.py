"""A trainer that raises, hangs, talks rubbish or dies costs its own job, and nobody else's."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Client, Weights
from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.pool import processes
from fedmq_client.pool.processes import ProcessPool

PATIENCE = 30.0

TRAINER = """
import os, re, signal, subprocess, sys, time
import numpy as np

print("imported")

class Trainer:
    def __init__(self, client):
        self.client = client
        self.calls = 0

    def init(self):
        return {"w": np.zeros(3, np.float32), "n": np.zeros(1, np.int64)}

    def validate(self, weights, task):
        return 7, {"loss": float(weights["w"].sum())}

    def train(self, weights, task):
        self.calls += 1
        do = task.config.get("do")
        if do == "raise":
            print("about to fail")
            raise ValueError("no such patient")
        if do == "exit":
            print("leaving")
            sys.stdout.flush()
            os._exit(3)
        if do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "sys.exit":
            sys.exit(1)
        if do == "hang":
            while True:
                time.sleep(0.01)
        if do == "hold the lock":
            re.match("(a+)+$", "a" * 100 + "b")
        if do == "wait":
            while True:
                task.report(0.5, loss=1.0)
                task.check()
                time.sleep(0.01)
        if do == "names":
            return {"w": weights["w"], "a": 1, "b": 1, "c": 1, "d": 1}, 1, {}
        if do == "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            return weights, child.pid, {}
        if do == "read":
            return weights, 1, {"stdin": sys.stdin.read(), "bytes": len(os.read(0, 1))}
        weights["w"] += 1
        task.state["rounds"] = task.state.get("rounds", np.zeros(1)) + 1
        return weights, 5, {
            "pid": os.getpid(),
            "calls": self.calls,
            "draw": int(np.random.randint(1 << 30)),
            "hash": hash("a"),
            "threads": os.environ["OMP_NUM_THREADS"],
            "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "left": task.deadline,
        }
"""


WEIGHTS: Weights = {"w": np.arange(3, dtype=np.float32), "n": np.ones(1, np.int64)}
MODEL = tensors.encode(WEIGHTS, {"roles": {"w": "statistic"}})


class Runner:
    """Submits jobs and waits for what comes back."""

    def __init__(self, pool: ProcessPool, package: Path) -> None:
        self.pool = pool
        self.package = package
        self.number = 0

    def job(self, do: str | None = None, client: str = "c0", **changes: Any) -> Job:
        self.number += 1
        base = Job(
            id=f"j{self.number}",
            client=Client(client),
            package=self.package,
            kind="train",
            random_seed=1,
            timeout=PATIENCE,
            config={"do": do},
            model=MODEL,
        )
        return replace(base, **changes)

    def start(
        self,
        job: Job,
        on_validation: Callable[[Validated], None] = lambda _: None,
        on_progress: Callable[[str, float, dict[str, Any]], None] = lambda *_: None,
    ) -> Callable[[], Result]:
        done = threading.Event()
        results: list[Result] = []

        def on_done(result: Result) -> None:
            results.append(result)
            done.set()

        self.pool.submit(job, on_validation, on_progress, on_done)

        def wait() -> Result:
            assert done.wait(PATIENCE), f"{job} did not end"
            assert len(results) == 1
            return results[0]

        return wait

    def run(self, do: str | None = None, **changes: Any) -> Result:
        return self.start(self.job(do, **changes))()

    def works(self) -> None:
        result = self.run()
        assert result.outcome == "done", result


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
    (folder / "trainer.py").write_text(TRAINER)
    return folder


@pytest.fixture
def runner(package: Path) -> Iterator[Runner]:
    pool = ProcessPool(1)
    yield Runner(pool, package)
    pool.close()


def test_a_training_gives_the_delta_in_the_models_names_and_roles(runner: Runner) -> None:
    result = runner.run()
    assert (result.outcome, result.examples) == ("done", 5)
    assert isinstance(result.update, bytes)
    delta, meta = tensors.decode(result.update)
    assert delta["w"].tolist() == [1, 1, 1]
    assert delta["n"].tolist() == [0]
    assert meta == {"roles": {"w": "statistic"}}
    assert result.seconds["train"] > 0


def test_weights_and_state_cross_by_file(runner: Runner, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(MODEL)
    output = tmp_path / "update"
    first = runner.run(model=model, output=output)
    assert (first.update, first.state) == (output, tmp_path / "update.state")
    assert tensors.decode(output.read_bytes())[0]["w"].tolist() == [1, 1, 1]
    second = runner.run(model=model, output=tmp_path / "second", state=first.state)
    assert isinstance(second.state, Path)
    assert tensors.decode(second.state.read_bytes())[0]["rounds"].tolist() == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model", "package", "second", "second.state", "update", "update.state",
    ]  # fmt: skip


def test_the_received_model_is_validated_before_training(runner: Runner) -> None:
    told: list[Validated] = []
    result = runner.start(runner.job(validate=True), told.append)()
    assert [(v.examples, v.metrics) for v in told] == [(7, {"loss": 3.0})]
    assert set(result.seconds) == {"validate", "train"}
    only = runner.run(kind="validate")
    assert (only.outcome, only.examples, only.metrics) == ("done", 7, {"loss": 3.0})
    assert only.update is None


def test_a_trainer_that_raises_fails_with_its_traceback_and_its_output(runner: Runner) -> None:
    result = runner.run("raise")
    assert result.outcome == "failed"
    assert result.reason == "train raised ValueError: no such patient"
    assert "line " in result.traceback and "running.py" not in result.traceback
    assert "about to fail" in result.traceback
    pids = runner.pool.worker_pids()
    runner.works()
    assert runner.pool.worker_pids() == pids


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("exit", "the worker process ended with exit code 3"),
        ("kill", "the worker process was killed by SIGKILL (out of memory?)"),
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


def test_an_idle_worker_that_is_killed_is_started_again(runner: Runner) -> None:
    runner.works()
    (pid,) = runner.pool.worker_pids()
    os.kill(pid, signal.SIGKILL)
    _until(lambda: runner.pool.worker_pids() not in ([], [pid]))
    runner.works()


def test_sys_exit_in_a_trainer_is_a_failure_and_not_the_end_of_the_worker(runner: Runner) -> None:
    result = runner.run("sys.exit")
    assert (result.outcome, result.reason) == ("failed", "train raised SystemExit: 1")
    runner.works()


@pytest.mark.parametrize("do", ["hang", "hold the lock"])
def test_a_trainer_that_hangs_past_its_deadline_is_killed(
    runner: Runner, do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    runner.works()
    result = runner.run(do, timeout=0.3)
    assert (result.outcome, result.reason) == ("failed", "train took longer than its 0.3 s")
    runner.works()


def test_a_trainer_that_checks_ends_at_its_deadline_and_keeps_its_worker(runner: Runner) -> None:
    runner.works()
    pids = runner.pool.worker_pids()
    result = runner.run("wait", timeout=0.3)
    assert (result.outcome, result.reason) == ("failed", "train took longer than its 0.3 s")
    runner.works()
    assert runner.pool.worker_pids() == pids


def test_a_job_that_no_worker_is_free_for_fails_in_time(runner: Runner) -> None:
    busy = runner.start(runner.job("wait", client="c1"))
    late = runner.run(timeout=0.2)
    assert (late.outcome, late.reason) == ("failed", "no worker was free within 0.2 s")
    runner.pool.cancel("j1")
    assert busy().outcome == "cancelled"


def test_a_running_job_can_be_cancelled_and_reports_progress(runner: Runner) -> None:
    seen = threading.Event()
    reports: list[tuple[str, float, dict[str, Any]]] = []

    def on_progress(*report: Any) -> None:
        reports.append(report)
        seen.set()

    wait = runner.start(runner.job("wait"), on_progress=on_progress)
    assert seen.wait(PATIENCE)
    assert reports[0] == ("j1", 0.5, {"loss": 1.0})
    runner.pool.cancel("j1")
    assert wait().outcome == "cancelled"
    runner.works()


def test_a_cancelled_job_that_does_not_listen_is_killed(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    told = threading.Event()
    wait = runner.start(runner.job("hang", validate=True), lambda _: told.set())
    assert told.wait(PATIENCE)
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


def quick(runner: Runner, number: int) -> list[Callable[[], Result]]:
    """So many jobs at once, after some that have shown how short they are."""
    for _ in range(3):
        runner.works()
    return [runner.start(runner.job(client=f"c{at % 7}")) for at in range(number)]


@pytest.mark.parametrize("workers", [1, 2])
def test_each_of_many_short_jobs_ends_once_with_its_own_result(package: Path, workers: int) -> None:
    pool = ProcessPool(workers)
    runner = Runner(pool, package)
    try:
        results = [wait() for wait in quick(runner, 300)]
        assert [result.job for result in results] == [f"j{number}" for number in range(4, 304)]
        assert {result.outcome for result in results} == {"done"}
        assert len({result.update for result in results}) == 1
    finally:
        pool.close()


@pytest.mark.parametrize("do", ["exit", "kill"])
def test_a_worker_that_dies_costs_none_of_the_jobs_that_it_was_handed_ahead(runner: Runner, do: str) -> None:
    before, deadly, after = quick(runner, 20), runner.start(runner.job(do)), quick(runner, 20)
    assert deadly().outcome == "failed"
    assert {wait().outcome for wait in before + after} == {"done"}


def test_the_output_of_a_job_among_many_is_its_own(runner: Runner) -> None:
    jobs = [runner.start(runner.job("raise" if number % 10 == 5 else None)) for number in range(60)]
    failed = [result for wait in jobs if (result := wait()).outcome == "failed"]
    assert len(failed) == 6
    assert all(result.traceback.count("about to fail") == 1 for result in failed)


def test_jobs_handed_ahead_do_not_wait_for_a_long_one(package: Path) -> None:
    pool = ProcessPool(2)
    runner = Runner(pool, package)
    try:
        for _ in range(3):
            runner.works()
        busy = runner.start(runner.job("wait"))
        jobs = [runner.start(runner.job()) for _ in range(20)]
        assert {wait().outcome for wait in jobs} == {"done"}
        pool.cancel("j4")
        assert busy().outcome == "cancelled"
    finally:
        pool.close()


def test_a_job_handed_ahead_fails_in_time_if_no_worker_comes_to_it(runner: Runner) -> None:
    for _ in range(3):
        runner.works()
    busy = runner.start(runner.job("wait"))
    late = runner.start(runner.job(timeout=0.6))()
    assert (late.outcome, late.reason) == ("failed", "no worker was free within 0.6 s")
    runner.pool.cancel("j4")
    assert busy().outcome == "cancelled"
    runner.works()


def test_wrong_names_are_listed_up_to_three(runner: Runner) -> None:
    result = runner.run("names")
    assert result.outcome == "failed"
    assert (
        result.reason == "the weights that train returned lack n and have a, b, c and 1 more, which the model has not"
    )


def test_a_trainer_can_read_nothing_of_the_pools_messages(runner: Runner) -> None:
    assert runner.run("read").metrics == {"stdin": "", "bytes": 0}


def test_a_package_that_can_not_be_loaded_fails_with_the_cause(runner: Runner, package: Path) -> None:
    (package / "fedn.yaml").unlink()
    result = runner.run()
    assert result.outcome == "failed"
    assert "has no fedn.yaml" in result.reason


def test_clients_keep_their_warm_trainers(package: Path) -> None:
    pool = ProcessPool(2)
    runner = Runner(pool, package)
    try:
        runs = {name: [runner.run(client=name) for _ in range(3)] for name in ("a", "b", "c")}
        for results in runs.values():
            assert [result.metrics["calls"] for result in results] == [1, 2, 3]
            assert len({result.metrics["pid"] for result in results}) == 1
    finally:
        pool.close()


def test_an_idle_worker_takes_over_from_a_busy_one_with_the_same_result(package: Path) -> None:
    pool = ProcessPool(2)
    runner = Runner(pool, package)
    try:
        home = runner.run()
        told = threading.Event()
        busy = runner.start(runner.job("wait", validate=True), lambda _: told.set())
        assert told.wait(PATIENCE)
        away = runner.run()
        assert away.metrics["pid"] != home.metrics["pid"]
        assert away.update == home.update
        for key in ("draw", "hash"):
            assert away.metrics[key] == home.metrics[key]
        pool.cancel("j2")
        assert busy().outcome == "cancelled"
    finally:
        pool.close()


def test_device_and_threads_are_in_the_workers_environment(package: Path) -> None:
    pool = ProcessPool(1, device="cpu", threads=1)
    try:
        metrics = Runner(pool, package).run().metrics
        assert (metrics["threads"], metrics["device"]) == ("1", "-1")
        assert 0 < metrics["left"] <= PATIENCE
    finally:
        pool.close()


def test_a_bad_device_or_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="FEDN_CLIENT_DEVICE is 'gpu'"):
        ProcessPool(1, device="gpu")
    with pytest.raises(ConfigError, match="at least one worker"):
        ProcessPool(0)


def test_closing_ends_workers_and_their_children_and_refuses_jobs(package: Path) -> None:
    pool = ProcessPool(1)
    runner = Runner(pool, package)
    grandchild = runner.run("child").examples
    assert grandchild is not None
    runner.start(runner.job("hang"))
    pids = [*pool.worker_pids(), grandchild]
    pool.close()
    pool.close()
    _until(lambda: not any(_alive(pid) for pid in pids))
    with pytest.raises(ConfigError, match="closed"):
        pool.submit(runner.job(), lambda _: None, lambda *_: None, lambda _: None)


def test_a_callback_that_raises_does_not_stop_the_pool(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the app is broken")

    runner.pool.submit(runner.job(), fail, fail, fail)
    runner.works()
    assert "the app is broken" in caplog.text


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
    _until(lambda: not any(_alive(pid) for pid in pids))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(reached: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < ends
        threading.Event().wait(0.01)
