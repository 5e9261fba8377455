"""The policy's section `update` travels whole from the start message to the client's job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmq_client.job.job import Job
from fedmq_client.pool.inline import InlinePool
from fedmq_combiner.documents import task_messages
from fedmq_sandbox import Sandbox
from fedmq_schemas.messages import BlobRef, Plan, PlanKey, TaskMessage, Update
from fedmq_schemas.policy import Policy, UpdateBounds
from fedmq_schemas.records import LedgerEntry

REGRESSION = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
MODEL = BlobRef(key="models/m", size=1, sha256="0" * 64)
VALUES: dict[str, Any] = {"clip_norm": 1.5, "max_norm": 9.0}
"""A value other than the default for every key of the section."""


def jobs_of(policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Returns the jobs of a session of one round in a whole alliance."""
    jobs: list[Job] = []
    submit = InlinePool.submit

    def watched(pool: InlinePool, job: Job, *callbacks: Any) -> None:
        jobs.append(job)
        submit(pool, job, *callbacks)

    monkeypatch.setattr(InlinePool, "submit", watched)
    policy = {"rounds": 1, **policy}
    with Sandbox(REGRESSION, policy=policy, clients=2, workers=0, evaluator=False) as sandbox:
        assert sandbox.run()["state"] == "finished"
    return [job for job in jobs if job.kind == "train"]


def test_every_key_reaches_the_job_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VALUES.keys() == UpdateBounds.model_fields.keys(), "name a value of the new key above"
    assert all(VALUES[name] != field.default for name, field in UpdateBounds.model_fields.items())
    jobs = jobs_of({"update": VALUES}, monkeypatch)
    assert [dict(job.update) for job in jobs] == [VALUES] * 2


def test_a_key_that_the_policy_does_not_set_reaches_the_job_as_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of({}, monkeypatch)
    assert [dict(job.update) for job in jobs] == [UpdateBounds().model_dump()] * 2


def task(**fields: Any) -> TaskMessage:
    key = PlanKey(session="s", round=1)
    common = {"plan": key, "client": "c1", "combiner": "k1", "model": MODEL, "timeout": 9.0, "rounds": 1, "seed": 1}
    return TaskMessage.model_validate(common | fields)


@pytest.mark.parametrize(
    ("fields", "clip_norm"),
    [
        ({}, None),
        ({"clip_norm": 2.0}, 2.0),
        ({"update": {"clip_norm": 3.0}}, 3.0),
        ({"clip_norm": 2.0, "update": {"clip_norm": 3.0}}, 3.0),
        ({"clip_norm": 2.0, "update": {"of_a_later_version": [1]}}, 2.0),
    ],
    ids=["neither", "a sender without the section", "the section", "both", "a key of a later version"],
)
def test_a_client_understands_older_and_newer_senders(fields: dict[str, Any], clip_norm: float | None) -> None:
    assert task(**fields).bounds == UpdateBounds(clip_norm=clip_norm)


def test_a_task_with_a_wrong_value_is_no_task() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        task(update={"clip_norm": -1.0})


def plan_of(**fields: Any) -> Plan:
    key = PlanKey(session="s", round=1)
    common = {"epoch": 1, "reply_to": "reducer", "timeout": 9.0, "rounds": 1, "random_seed": 1}
    return Plan.model_validate({"plan": key, "model": MODEL, **common, **fields})


def test_a_combiner_passes_on_a_key_that_it_does_not_know() -> None:
    section = {"clip_norm": 2.0, "of_a_later_version": [1]}
    plan = plan_of(update=section)
    [sent] = task_messages(plan, ["c1"], "k1", 9.0)
    assert sent.update == section


def test_messages_and_ledgers_of_a_session_that_begins_fresh_are_those_of_an_older_version() -> None:
    plan = plan_of()
    update = Update(plan=plan.plan, model="m", blob=MODEL, weight=1)
    for body in (plan, *task_messages(plan, ["c1"], "k1", 9.0), update, LedgerEntry(client="c1", outcome="accepted")):
        assert "personal" not in body.model_dump()
    assert "personal" not in Policy().model_dump()


def test_a_plan_that_continues_says_so_in_each_task() -> None:
    plan = plan_of(personal="continue")
    assert [sent.personal for sent in task_messages(plan, ["c1", "c2"], "k1", 9.0)] == ["continue"] * 2
