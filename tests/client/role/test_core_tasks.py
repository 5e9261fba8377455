"""A client runs one task at a time, each one once: requested again, it publishes again what it has kept."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from client.role.core_driver import SENT, ClientDriver, NewClient, Outcome, begun, finished, plan, task
from fedmq.runtime.effects import Ack, Effect, Publish
from fedmq_client.role.operations import TaskFinished, TaskResult, Upload, task_key
from fedmq_schemas.messages import Attach, Decline, PersonalStart, Progress, Update
from fedmq_schemas.policy import weight_of
from support.cores import all_of, bodies, one


def answered(effects: list[Effect]) -> Publish:
    return one(effects, Publish)


# -- the course of one task -----------------------------------------------------------------------------------------


def test_a_task_is_acknowledged_and_begun_at_once(client: ClientDriver) -> None:
    effects = client.request(task(plan(1)))
    assert effects[0] == Ack((client.tag,))
    assert begun(effects) == [plan(1)]


def test_a_trained_update_is_uploaded_and_then_published_to_the_combiner(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    upload = one(client.finish(plan(1), examples=5, metrics={"loss": 0.5}), Upload)
    assert upload.task == task(plan(1))
    published = answered(client.uploaded(upload))
    assert (published.exchange, published.routing_key, published.confirm) == ("update", "update.k1.c1", True)
    update = published.body
    assert isinstance(update, Update)
    assert (update.plan, update.model, update.blob) == (plan(1), "models/m", SENT)
    assert (update.weight, update.metrics) == (5, {"loss": 0.5})


@pytest.mark.parametrize(("weighting", "weight"), [("examples", 50), ("equal", 1), ("capped:20", 20)])
def test_the_weight_of_an_update_follows_the_policy(client: ClientDriver, weighting: str, weight: int) -> None:
    client.request(task(plan(1), weighting=weighting))
    upload = one(client.finish(plan(1), examples=50), Upload)
    [update] = bodies(client.uploaded(upload), Update)
    assert update.weight == weight


@pytest.mark.parametrize("weighting", ["examples", "equal", "capped:20"])
def test_no_examples_have_no_weight_and_no_message_can_say_otherwise(weighting: str) -> None:
    assert weight_of(weighting, 0) == 0
    with pytest.raises(ValidationError, match=r"weight\n.*greater than or equal to 1"):
        Update(plan=plan(1), model="m", blob=SENT, weight=weight_of(weighting, 0))


def test_an_update_of_no_examples_that_an_earlier_version_kept_is_trained_again(new_client: NewClient) -> None:
    empty = TaskResult(task_key(plan(1)), "done", examples=0, update=b"u")
    client = new_client(Attach(), empty)
    client.attach("k1")
    assert begun(client.request(task(plan(1)))) == [plan(1)]


def test_an_update_reports_seconds_of_each_step_and_in_total_since_the_first_request(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1)))
    client.at = 103.0
    client.request(task(plan(1)))
    client.at = 107.0
    upload = one(client.finish(plan(1), seconds={"train": 6.5}), Upload)
    client.at = 109.0
    [update] = bodies(client.uploaded(upload), Update)
    assert update.seconds == {"train": 6.5, "upload": 2.0, "total": 9.0}


def test_an_update_says_what_its_private_state_began_with_also_when_it_is_published_again(client: ClientDriver) -> None:
    continued = PersonalStart(outcome="continued", session="s0")
    client.request(task(plan(1)))
    result = dataclasses.replace(finished(plan(1)), personal=continued)
    [update] = bodies(client.uploaded(one(client.handle(TaskFinished(result)), Upload)), Update)
    assert update.personal == continued
    [again] = bodies(client.uploaded(one(client.request(task(plan(1, attempt=2))), Upload)), Update)
    assert again.personal == continued


@pytest.mark.parametrize("outcome", ["abstained", "failed"])
def test_a_trainer_without_a_result_is_reported_with_the_reason_and_the_end_of_its_traceback(
    client: ClientDriver, outcome: Outcome
) -> None:
    client.request(task(plan(1)))
    effects = client.finish(plan(1), outcome, reason="r" * 3_000, traceback="t" * 9_000 + "end")
    [decline] = bodies(effects, Decline)
    assert (decline.plan, decline.outcome, decline.reason) == (plan(1), outcome, "r" * 2_000)
    assert len(decline.traceback) == 8_000 and decline.traceback.endswith("end")


def test_progress_of_the_work_under_way_is_published_and_not_confirmed(client: ClientDriver) -> None:
    client.request(task(plan(1), combiner="k2"))
    published = answered(client.progress(plan(1), 0.5, loss=1.0))
    assert published.body == Progress(plan=plan(1), fraction=0.5, metrics={"loss": 1.0})
    assert (published.routing_key, published.confirm) == ("update.k2.c1", False)


def test_the_place_where_a_trainer_hangs_is_published_with_its_progress(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    published = answered(client.progress(plan(1), 0.5, "trainer.py:18 in train" + "n" * 400))
    assert published.body == Progress(plan=plan(1), fraction=0.5, place=("trainer.py:18 in train" + "n" * 400)[:300])


def test_progress_of_other_work_is_discarded(client: ClientDriver) -> None:
    assert client.progress(plan(1), 0.5) == []
    client.request(task(plan(2)))
    assert client.progress(plan(1), 0.5) == []


# -- several tasks --------------------------------------------------------------------------------------------------


def test_tasks_are_run_one_at_a_time_in_the_order_of_their_requests(client: ClientDriver) -> None:
    assert begun(client.request(task(plan(1, "validate")))) == [plan(1, "validate")]
    assert begun(client.request(task(plan(2, "validate")))) == []
    assert begun(client.request(task(plan(3, "validate")))) == []
    assert begun(client.finish(plan(1, "validate"))) == [plan(2, "validate")]
    assert begun(client.finish(plan(2, "validate"))) == [plan(3, "validate")]


def test_training_precedes_validations_that_wait(client: ClientDriver) -> None:
    client.request(task(plan(1, "validate")))
    client.request(task(plan(2, "validate")))
    client.request(task(plan(3)))
    assert begun(client.finish(plan(1, "validate"))) == [plan(3)]
    assert begun(client.finish(plan(3))) == [plan(2, "validate")]


def test_the_next_task_begins_while_an_update_is_uploaded(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.request(task(plan(1, "validate")))
    effects = client.finish(plan(1))
    assert len(all_of(effects, Upload)) == 1
    assert begun(effects) == [plan(1, "validate")]


# -- requested again ------------------------------------------------------------------------------------------------


def test_a_task_requested_again_while_under_way_is_answered_once_to_the_latest_request(client: ClientDriver) -> None:
    client.request(task(plan(1), combiner="k1"))
    again = plan(1, attempt=2)
    assert begun(client.request(task(again, combiner="k2"))) == []
    published = answered(client.uploaded(one(client.finish(plan(1)), Upload)))
    assert published.routing_key == "update.k2.c1"
    assert isinstance(published.body, Update) and published.body.plan == again


def test_a_task_requested_again_while_it_waits_runs_once_for_the_latest_request(client: ClientDriver) -> None:
    client.request(task(plan(1, "validate")))
    client.request(task(plan(1), combiner="k1"))
    client.request(task(plan(1, attempt=2), combiner="k2"))
    effects = client.finish(plan(1, "validate"))
    assert begun(effects) == [plan(1, attempt=2)]
    assert begun(client.finish(plan(1))) == []


def test_a_finished_task_requested_again_is_uploaded_again_and_not_trained_again(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.uploaded(one(client.finish(plan(1)), Upload))
    effects = client.request(task(plan(1, attempt=2), combiner="k2"))
    assert begun(effects) == []
    published = answered(client.uploaded(one(effects, Upload)))
    assert published.routing_key == "update.k2.c1"
    assert isinstance(published.body, Update) and published.body.plan == plan(1, attempt=2)


def test_an_update_of_an_earlier_life_is_uploaded_and_not_trained_again(new_client: NewClient) -> None:
    client = new_client(Attach(), finished(plan(1), examples=9))
    client.attach("k1")
    effects = client.request(task(plan(1)))
    assert begun(effects) == []
    [update] = bodies(client.uploaded(one(effects, Upload)), Update)
    assert update.weight == 9


def test_a_task_without_a_result_is_run_again_when_it_is_requested_again(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.finish(plan(1), "failed")
    assert begun(client.request(task(plan(1)))) == [plan(1)]
