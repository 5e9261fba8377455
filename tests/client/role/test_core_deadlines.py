"""A task's deadline is measured from the receipt of its request, also if the task waits at its client behind another."""

from __future__ import annotations

from collections.abc import Sequence

from client.role.core_driver import ClientDriver, begun, plan, task
from fedmq.runtime.effects import Effect
from fedmq_client.role.operations import RunTask
from fedmq_schemas.messages import Decline
from support.cores import bodies, one


def ends(effects: Sequence[Effect]) -> float:
    """Returns the deadline of the work that begins. A task of these tests has 60 s."""
    return one(effects, RunTask).ends


def test_a_task_that_begins_at_once_has_its_whole_time(client: ClientDriver) -> None:
    client.at = 100.0
    assert ends(client.request(task(plan(1)))) == 160.0


def test_a_training_that_waited_behind_a_validation_has_only_the_time_that_is_left(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1, "validate")))
    client.at = 110.0
    client.request(task(plan(2)))
    client.at = 150.0
    assert ends(client.finish(plan(1, "validate"))) == 170.0


def test_a_validation_that_waited_behind_a_training_has_only_the_time_that_is_left(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1)))
    client.request(task(plan(1, "validate")))
    client.at = 159.0
    assert ends(client.finish(plan(1))) == 160.0


def test_a_training_that_another_session_interrupts_keeps_its_deadline(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1)))
    client.at = 120.0
    client.request(task(plan(1, session="s2")))
    client.at = 130.0
    effects = client.finish(plan(1, session="s2"))
    assert begun(effects) == [plan(1)]
    assert ends(effects) == 160.0


def test_a_redelivered_request_does_not_postpone_the_deadline_of_its_plan(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1, "validate")))
    client.request(task(plan(2)))
    client.at = 130.0
    client.request(task(plan(2)))
    assert ends(client.finish(plan(1, "validate"))) == 160.0


def test_a_request_that_is_sent_again_with_less_time_brings_the_deadline_forward(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1, "validate")))
    client.request(task(plan(2)))
    client.request(task(plan(2)).model_copy(update={"timeout": 20.0}))
    assert ends(client.finish(plan(1, "validate"))) == 120.0


def test_a_new_attempt_of_a_round_has_a_deadline_of_its_own(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1, "validate")))
    client.request(task(plan(2)))
    client.at = 130.0
    client.request(task(plan(2, attempt=2)))
    assert ends(client.finish(plan(1, "validate"))) == 190.0


# -- a new attempt while the work of an earlier one is under way --------------------------------------------------------


def late_training(client: ClientDriver) -> None:
    """Begins the training of attempt 1 with 10 s left, and requests attempt 2 five seconds later."""
    client.at = 100.0
    client.request(task(plan(1, "validate")))
    client.request(task(plan(2)))
    client.at = 150.0
    client.finish(plan(1, "validate"))
    client.at = 155.0
    assert begun(client.request(task(plan(2, attempt=2)))) == []


def test_work_that_began_late_and_met_its_deadline_runs_again_for_a_new_attempt(client: ClientDriver) -> None:
    late_training(client)
    client.at = 160.0
    effects = client.finish(plan(2), "failed", reason="train took longer than its 10 s")
    assert bodies(effects, Decline) == []
    assert begun(effects) == [plan(2, attempt=2)] and ends(effects) == 215.0
    client.at = 215.0
    [decline] = bodies(client.finish(plan(2, attempt=2), "failed", reason="took longer again"), Decline)
    assert decline.plan == plan(2, attempt=2)


def test_work_that_fails_before_its_deadline_is_declined_also_for_a_new_attempt(client: ClientDriver) -> None:
    late_training(client)
    client.at = 158.0
    [decline] = bodies(client.finish(plan(2), "failed", reason="train raised ValueError"), Decline)
    assert decline.reason == "train raised ValueError"


def test_work_that_had_its_whole_time_is_not_run_again(client: ClientDriver) -> None:
    client.at = 100.0
    client.request(task(plan(1)))
    client.at = 150.0
    client.request(task(plan(1, attempt=2)))
    client.at = 160.0
    [decline] = bodies(client.finish(plan(1), "failed", reason="train took longer than its 60 s"), Decline)
    assert decline.plan == plan(1, attempt=2)


def test_a_leaving_client_runs_nothing_again(client: ClientDriver) -> None:
    late_training(client)
    client.stop()
    client.at = 160.0
    [decline] = bodies(client.finish(plan(2), "failed", reason="train took longer than its 10 s"), Decline)
    assert decline.plan == plan(2, attempt=2)
