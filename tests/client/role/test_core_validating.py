"""A client validates the model that it receives, in a task of its own or before it trains, and reports to the reducer."""

from __future__ import annotations

import dataclasses

import pytest

from client.role.core_driver import ClientDriver, NewClient, Outcome, begun, finished, plan, task
from fedmq.runtime.effects import Publish
from fedmq_client.role.operations import ModelScores, ModelValidated, Upload
from fedmq_schemas.messages import Attach, Validation
from support.cores import all_of, bodies, one

VALIDATE = plan(1, "validate")


def test_metrics_of_a_validate_task_are_published_to_the_reducer(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    published = one(client.score(VALIDATE, 5, accuracy=0.9), Publish)
    assert (published.exchange, published.routing_key, published.confirm) == ("update", "update.reducer.c1", True)
    assert published.body == Validation(
        plan=VALIDATE, model="models/m", scope="client", weight=5, metrics={"accuracy": 0.9}
    )
    assert all_of(client.finish(VALIDATE), Publish) == []


def test_metrics_of_the_received_model_are_published_before_its_training_has_ended(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    [validation] = bodies(client.score(plan(1), 5, accuracy=0.9), Validation)
    assert (validation.plan, validation.metrics) == (plan(1), {"accuracy": 0.9})
    assert len(all_of(client.finish(plan(1)), Upload)) == 1


def test_metrics_of_a_client_that_does_not_train_are_those_of_a_test_set(new_client: NewClient) -> None:
    client = new_client(Attach(tasks=("validate",)))
    client.attach("k1")
    client.request(task(VALIDATE))
    [validation] = bodies(client.score(VALIDATE), Validation)
    assert validation.scope == "test"


@pytest.mark.parametrize(
    ("weighting", "examples", "weight"),
    [("examples", 50, 50), ("equal", 50, 1), ("capped:20", 50, 20), ("examples", None, None)],
)
def test_the_weight_of_metrics_follows_the_policy_and_is_unknown_without_a_count_of_examples(
    client: ClientDriver, weighting: str, examples: int | None, weight: int | None
) -> None:
    client.request(task(VALIDATE, weighting=weighting))
    [validation] = bodies(client.score(VALIDATE, examples, weighting=weighting), Validation)
    assert validation.weight == weight


def test_the_latest_validation_is_kept_and_published_again_for_the_plan_that_requests_it(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    [first] = bodies(client.score(VALIDATE, accuracy=0.9), Validation)
    client.finish(VALIDATE)
    again = plan(1, "validate", attempt=2)
    effects = client.request(task(again, combiner="k2"))
    assert begun(effects) == []
    assert one(effects, Publish).body == first.model_copy(update={"plan": again})


def test_an_earlier_validation_is_run_again_when_it_is_requested_again(client: ClientDriver) -> None:
    for of in (VALIDATE, plan(2, "validate")):
        client.request(task(of))
        client.score(of)
        client.finish(of)
    assert begun(client.request(task(VALIDATE))) == [VALIDATE]


@pytest.mark.parametrize("outcome", ["abstained", "failed"])
@pytest.mark.parametrize(("tasks", "scope"), [(("train", "validate"), "client"), (("validate",), "test")])
def test_a_validation_without_a_result_is_reported_with_the_reason(
    new_client: NewClient, outcome: Outcome, tasks: tuple[str, ...], scope: str
) -> None:
    client = new_client(Attach.model_validate({"tasks": tasks}))
    client.attach("k1")
    client.request(task(VALIDATE))
    [validation] = bodies(client.finish(VALIDATE, outcome, reason="no data"), Validation)
    assert (validation.plan, validation.scope, validation.weight) == (VALIDATE, scope, None)
    assert (validation.metrics, validation.reason) == ({}, "no data")


def test_an_update_that_is_kept_is_no_answer_to_a_validate_task(new_client: NewClient) -> None:
    client = new_client(Attach(), finished(plan(1)))
    client.attach("k1")
    assert begun(client.request(task(VALIDATE))) == [VALIDATE]


def test_scores_that_are_kept_with_an_update_are_published_again_with_it(new_client: NewClient) -> None:
    """A client that is killed may have kept its update before its scores were confirmed."""
    kept = dataclasses.replace(finished(plan(1)), scores=ModelScores(4, {"loss": 0.7}))
    client = new_client(Attach(), kept)
    client.attach("k1")
    effects = client.request(task(plan(1)))
    [validation] = bodies(effects, Validation)
    assert (validation.plan, validation.model) == (plan(1), task(plan(1)).model.key)
    assert (validation.scope, validation.metrics, validation.weight) == ("client", {"loss": 0.7}, 4)
    assert one(effects, Upload).result == kept


def test_notes_and_the_reason_of_a_failed_validation_are_published(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    scores = ModelScores(None, {}, ("m is not kept",), "validate raised ValueError", "frames")
    failed = ModelValidated(task(plan(1)), scores)
    [validation] = bodies(client.handle(failed), Validation)
    assert (validation.metrics, validation.weight, validation.notes) == ({}, None, ("m is not kept",))
    assert (validation.reason, validation.traceback) == ("validate raised ValueError", "frames")


def test_a_validate_task_that_fails_is_answered_with_its_traceback(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    [validation] = bodies(client.finish(VALIDATE, "failed", reason="r", traceback="frames"), Validation)
    assert (validation.reason, validation.traceback, validation.metrics) == ("r", "frames", {})
