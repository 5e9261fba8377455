"""Jobs whose results a caller awaits are known with the place that each of them has reached."""

from __future__ import annotations

import pytest

from client.pool.runner import PATIENCE, Runner
from fedmq_client.pool import processes
from fedmq_client.pool.awaited import AwaitedJobs
from support.waiting import until


def test_the_place_of_a_job_and_of_one_behind_it_is_known_at_any_time(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    runner.works()
    line = (runner.package / "trainer.py").read_text().split("\n").index("                time.sleep(0.01)") + 1
    jobs = AwaitedJobs(runner.pool)
    job = runner.job("hang", timeout=PATIENCE, client="a")
    hanging = jobs.submit(job)
    behind = jobs.submit(runner.job("nothing", timeout=PATIENCE, client="b"))
    expected = [("a", f"trainer.py:{line} in train"), ("b", "the queue for a worker, behind a")]
    for _ in range(2):  # it is requested anew by each look
        until(lambda: [(each.client, each.place) for each in jobs.look()] == expected, "the places")
    runner.pool.cancel(job.id)
    assert {hanging.get(timeout=PATIENCE).outcome, behind.get(timeout=PATIENCE).outcome} == {"cancelled", "done"}
    assert jobs.look() == []
