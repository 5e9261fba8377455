"""Short jobs are sent to a worker in batches."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client.pool.runner import Runner
from fedmq_client.job.job import Result
from fedmq_client.pool import processes
from fedmq_client.pool.processes import ProcessPool
from support.waiting import until


@pytest.fixture(autouse=True)
def _every_job_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "QUICK_SECONDS", 60.0)


def quick(runner: Runner, number: int) -> list[Callable[[], Result]]:
    """Submits so many jobs at once, after one that has shown how short they are."""
    runner.works()
    return [runner.start(runner.job(client=f"c{at % 7}")) for at in range(number)]


@pytest.mark.real  # both pools start workers, which the sorting of tests does not see behind `getfixturevalue`
@pytest.mark.parametrize("workers", ["runner", "two_workers"])
def test_each_of_many_short_jobs_ends_once_with_its_own_result(request: pytest.FixtureRequest, workers: str) -> None:
    results = [wait() for wait in quick(request.getfixturevalue(workers), 300)]
    assert [result.job for result in results] == [f"j{number}" for number in range(2, 302)]
    assert {result.outcome for result in results} == {"done"}
    assert len({result.update for result in results}) == 1


@pytest.mark.parametrize("do", ["exit", "kill"])
def test_a_worker_that_dies_costs_none_of_the_jobs_that_it_was_sent_in_a_batch(runner: Runner, do: str) -> None:
    before, deadly, after = quick(runner, 20), runner.start(runner.job(do)), quick(runner, 20)
    assert deadly().outcome == "failed"
    assert {wait().outcome for wait in before + after} == {"done"}


def test_the_output_of_a_job_among_many_is_its_own(runner: Runner) -> None:
    jobs = [runner.start(runner.job("raise" if number % 10 == 5 else None)) for number in range(60)]
    failed = [result for wait in jobs if (result := wait()).outcome == "failed"]
    assert len(failed) == 6
    assert all(result.traceback.count("about to fail") == 1 for result in failed)


def test_jobs_of_a_batch_do_not_wait_for_a_long_one(two_workers: Runner) -> None:
    two_workers.works()
    busy = two_workers.start(two_workers.job("wait"))
    jobs = [two_workers.start(two_workers.job()) for _ in range(20)]
    assert {wait().outcome for wait in jobs} == {"done"}
    two_workers.pool.cancel("j2")
    assert busy().outcome == "cancelled"


def test_jobs_behind_a_long_one_expire_or_are_cancelled_or_run_later(runner: Runner) -> None:
    runner.works()
    blocker = runner.start(runner.job("wait"))
    # While j2 runs, these wait together; afterwards they are one batch.
    long, late, unwanted, patient = (
        runner.start(job) for job in (runner.job("wait"), runner.job(timeout=1.0), runner.job(), runner.job())
    )
    runner.pool.cancel("j2")
    assert blocker().outcome == "cancelled"
    runner.pool.cancel("j5")
    assert unwanted().outcome == "cancelled"
    assert late().reason == "no worker was free within 1 s; if trainers are only slow, raise `timeout`"
    runner.pool.cancel("j3")
    assert (long().outcome, patient().outcome) == ("cancelled", "done")


def test_no_worker_is_idle_while_a_job_that_was_taken_back_waits(package: Path) -> None:
    pool = ProcessPool(3)
    runner = Runner(pool, package)
    try:
        for client in ("c0", "c1", "c2"):
            assert runner.run(client=client).outcome == "done"
        # All three clients have run on one worker, which is sent their next jobs as one batch.
        started: set[str] = set()
        jobs = [runner.job("wait", client=client) for client in ("c0", "c1", "c2")]
        waits = [runner.start(job, on_progress=lambda job, *_: started.add(job)) for job in jobs]
        until(lambda: started == {job.id for job in jobs}, "all three jobs run at once")
        for job in jobs:
            pool.cancel(job.id)
        assert {wait().outcome for wait in waits} == {"cancelled"}
    finally:
        pool.close()
