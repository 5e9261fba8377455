"""A job has the time that its task has left. A task without any is declined, and its trainer not called."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.role.alone import AloneClient
from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation, Result
from fedmq_client.role.model_cache import Models
from fedmq_schemas.messages import Decline, Validation


class HeldPool:
    """A pool whose jobs run until the test ends them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._done: list[OnDone] = []

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        self.jobs.append(job)
        self._done.append(on_done)

    def end(self) -> None:
        self._done[-1](Result(self.jobs[-1].id, "abstained", reason="no examples"))

    def cancel(self, job_id: str) -> None: ...

    def locate(self, job_id: str) -> None: ...

    def close(self, timeout: float = 10.0) -> None: ...


@pytest.fixture
def pool() -> HeldPool:
    return HeldPool()


@pytest.fixture
def client(pool: HeldPool, tmp_path: Path) -> AloneClient:
    """A client whose tasks have 60 s of virtual time."""
    client = AloneClient(tmp_path, pool=pool)
    client.attach()
    return client


def test_a_job_has_the_time_that_its_task_has_left(client: AloneClient, pool: HeldPool) -> None:
    client.request("validate")
    client.request("train")
    client.scheduler.later(50.0, pool.end)
    client.run(55.0)
    first, second = pool.jobs
    assert (first.kind, first.timeout, first.waited) == ("validate", 60.0, 0.0)
    assert second.kind == "train" and (second.timeout, second.waited) == (10.0, 50.0)


@pytest.mark.parametrize(
    ("waiting", "setting", "kind"), [("train", "timeout", Decline), ("validate", "validation_timeout", Validation)]
)
def test_a_task_that_waited_until_its_deadline_is_declined_with_the_reason(
    client: AloneClient, pool: HeldPool, waiting: str, setting: str, kind: type[Decline] | type[Validation]
) -> None:
    client.request("validate" if waiting == "train" else "train")
    client.request(waiting)
    client.scheduler.later(60.0, pool.end)
    client.run(65.0)
    assert len(pool.jobs) == 1
    answer = client.bodies(kind)[-1]
    assert answer.plan.action == waiting
    assert answer.reason == (
        f"there is no time left: the deadline of this {waiting} task passed before its turn came; "
        f"if trainers are only slow, raise `{setting}`"
    )


def test_a_task_whose_model_arrives_after_its_deadline_is_declined_with_the_reason(
    client: AloneClient, pool: HeldPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, given = Models.fetch, []

    def slow(models: Models, task: object, timeout: float, on_fault: object) -> object:
        given.append(timeout)
        client.scheduler.run(limit=client.scheduler.now() + 60.0)
        return fetch(models, task, timeout, on_fault)  # type: ignore[arg-type]

    monkeypatch.setattr(Models, "fetch", slow)
    client.request("train")
    assert (given, pool.jobs) == ([60.0], [])
    [decline] = client.bodies(Decline)
    assert decline.reason == (
        "there is no time left: the deadline of this train task passed before its model was fetched; "
        "if trainers are only slow, raise `timeout`"
    )
