"""A cancelled task is removed before it begins; afterwards it has five seconds to end. A session that is over is
forgotten."""

from __future__ import annotations

import pytest

from client.role.core_driver import ClientDriver, Outcome, abandoned, begun, plan, task
from fedmq.runtime.effects import Ack
from fedmq_client.role.operations import Forget, Upload, task_key
from fedmq_schemas.messages import Decline
from support.cores import all_of, bodies, one

VALIDATE = plan(1, "validate")


# -- one plan -------------------------------------------------------------------------------------------------------


def test_a_cancelled_task_that_waits_is_not_begun(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    client.request(task(plan(1)))
    assert client.cancel(plan(1)) == [Ack((client.tag,))]
    assert begun(client.finish(VALIDATE)) == []


def test_cancelled_work_is_stopped_after_five_seconds_and_the_next_task_begins(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.request(task(VALIDATE))
    assert abandoned(client.cancel(plan(1))) == []
    effects = client.fire(f"abandon:{plan(1)}")
    assert client.at == 5.0
    assert abandoned(effects) == [task_key(plan(1))]
    assert begun(effects) == [VALIDATE]
    assert client.finish(plan(1)) == []


def test_cancelled_work_that_ends_in_time_is_kept_and_answered(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.cancel(plan(1))
    effects = client.finish(plan(1))
    assert len(all_of(effects, Upload)) == 1
    assert f"abandon:{plan(1)}" not in client.timers


@pytest.mark.parametrize("outcome", ["failed", "abstained"])
def test_cancelled_work_that_yields_no_update_is_not_answered(client: ClientDriver, outcome: Outcome) -> None:
    """A worker that is killed at its deadline fails after the combiner has reported the client as absent."""
    client.request(task(plan(1)))
    client.request(task(VALIDATE))
    client.cancel(plan(1))
    effects = client.finish(plan(1), outcome, reason="train took longer than its 5 s")
    assert bodies(effects, Decline) == []
    assert f"abandon:{plan(1)}" not in client.timers
    assert begun(effects) == [VALIDATE]


def test_cancelled_work_that_is_requested_again_is_answered_whatever_it_yields(client: ClientDriver) -> None:
    for number, again in ((1, plan(1, attempt=2)), (2, plan(2))):  # the combiner may have started over meanwhile
        client.request(task(plan(number)))
        client.cancel(plan(number))
        client.request(task(again))
        assert [each.plan for each in bodies(client.finish(again, "failed"), Decline)] == [again]


def test_work_is_answered_that_is_requested_again_after_it_was_cancelled_and_had_failed(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.cancel(plan(1))
    client.finish(plan(1), "failed")
    client.request(task(plan(1)))
    assert len(bodies(client.finish(plan(1), "failed"), Decline)) == 1


def test_work_that_was_stopped_is_begun_again_when_it_is_requested_again(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.cancel(plan(1))
    client.fire(f"abandon:{plan(1)}")
    assert begun(client.request(task(plan(1, attempt=2)))) == [plan(1, attempt=2)]


def test_cancelled_work_that_a_newer_attempt_requests_goes_on(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.cancel(plan(1))
    client.request(task(plan(1, attempt=2)))
    assert client.fire(f"abandon:{plan(1)}") == []
    assert len(all_of(client.finish(plan(1)), Upload)) == 1


def test_a_cancel_of_another_attempt_does_not_touch_the_work_under_way(client: ClientDriver) -> None:
    client.request(task(plan(1, attempt=2)))
    assert client.cancel(plan(1)) == [Ack((client.tag,))]
    assert set(client.timers) == {"presence"}


def test_a_cancel_of_another_attempt_does_not_remove_the_newer_one_that_waits(client: ClientDriver) -> None:
    """Two combiners may send the cancel of one attempt and the task of the next; they arrive in any order."""
    client.request(task(VALIDATE))
    client.request(task(plan(1), combiner="k1"))
    client.request(task(plan(1, attempt=2), combiner="k2"))
    client.cancel(plan(1))
    assert begun(client.finish(VALIDATE)) == [plan(1, attempt=2)]


# -- a whole session ------------------------------------------------------------------------------------------------


def test_the_end_of_a_session_stops_its_work_at_once_and_the_next_task_begins(client: ClientDriver) -> None:
    other = plan(1, "validate", session="s2")
    client.request(task(plan(1)))
    client.request(task(VALIDATE))
    client.request(task(other))
    effects = client.cancel(plan(0), session_over=True)
    assert abandoned(effects) == [task_key(plan(1))]
    assert begun(effects) == [other]


def test_the_end_of_a_session_deletes_all_that_is_kept_for_it(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.uploaded(one(client.finish(plan(1)), Upload))
    assert all_of(client.cancel(plan(0), session_over=True), Forget) == [Forget("s1")]
    assert all_of(client.request(task(plan(1, session="s2"))), Forget) == [], "nothing is left to be deleted"


def test_a_task_of_a_session_that_is_over_is_discarded(client: ClientDriver) -> None:
    client.cancel(plan(0), session_over=True)
    for late in (plan(9), plan(9, "validate")):
        assert client.request(task(late)) == [Ack((client.tag,))]


def test_the_end_of_a_session_does_not_touch_another_one(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.request(task(VALIDATE))
    assert abandoned(client.cancel(plan(0, session="s2"), session_over=True)) == []
    effects = client.finish(plan(1))
    assert len(all_of(effects, Upload)) == 1
    assert begun(effects) == [VALIDATE]
