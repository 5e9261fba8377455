"""The newest train task counts: it ends the rounds before it, and work of other sessions waits for it."""

from __future__ import annotations

import pytest

from client.role.core_driver import ClientDriver, NewClient, abandoned, begun, finished, plan, task
from fedmq.runtime.effects import Ack
from fedmq_client.role.operations import Forget, Upload, task_key
from fedmq_schemas.messages import Attach, PlanKey, Update
from support.cores import all_of, bodies, one

OTHER = plan(7, session="s2")


# -- a newer round of the same session ------------------------------------------------------------------------------


def test_a_newer_round_stops_the_training_of_an_earlier_one_and_begins(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    effects = client.request(task(plan(2)))
    assert abandoned(effects) == [task_key(plan(1))]
    assert begun(effects) == [plan(2)]
    assert client.finish(plan(1)) == []
    assert begun(client.finish(plan(2))) == []


def test_a_newer_round_removes_earlier_training_that_waits(client: ClientDriver) -> None:
    client.request(task(plan(1, "validate")))
    client.request(task(plan(1)))
    client.request(task(plan(2)))
    assert begun(client.finish(plan(1, "validate"))) == [plan(2)]
    assert begun(client.finish(plan(2))) == []


def test_a_newer_round_does_not_touch_validations(client: ClientDriver) -> None:
    client.request(task(plan(1, "validate")))
    client.request(task(plan(0, "validate")))
    assert abandoned(client.request(task(plan(2)))) == []
    assert begun(client.finish(plan(1, "validate"))) == [plan(2)]
    assert begun(client.finish(plan(2))) == [plan(0, "validate")]


def test_a_validation_ends_no_training(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    assert abandoned(client.request(task(plan(5, "validate")))) == []
    assert len(all_of(client.finish(plan(1)), Upload)) == 1


@pytest.mark.parametrize(
    "late", [plan(1), plan(2, attempt=1, part=9), plan(2, attempt=2, part=0)], ids=["round", "attempt", "part"]
)
def test_a_train_task_that_comes_late_is_acknowledged_and_discarded(client: ClientDriver, late: PlanKey) -> None:
    client.request(task(plan(2, attempt=2, part=1)))
    assert client.request(task(late)) == [Ack((client.tag,))]
    [update] = bodies(client.uploaded(one(client.finish(plan(2)), Upload)), Update)
    assert update.plan == plan(2, attempt=2, part=1)


def test_updates_of_earlier_rounds_stay_in_the_store_until_the_newer_round_is_trained(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.uploaded(one(client.finish(plan(1)), Upload))
    assert all_of(client.request(task(plan(2))), Forget) == []


# -- another session ------------------------------------------------------------------------------------------------


def test_training_for_another_session_waits_and_is_begun_again_afterwards(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    effects = client.request(task(OTHER))
    assert abandoned(effects) == [task_key(plan(1))]
    assert begun(effects) == [OTHER]
    assert begun(client.finish(OTHER)) == [plan(1)]


def test_training_of_another_session_that_waits_keeps_its_place(client: ClientDriver) -> None:
    client.request(task(plan(1, "validate")))
    client.request(task(plan(3)))
    client.request(task(OTHER))
    assert begun(client.finish(plan(1, "validate"))) == [OTHER]
    assert begun(client.finish(OTHER)) == [plan(3)]


def test_training_goes_on_when_another_session_only_requests_what_is_kept(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.request(task(OTHER))
    assert begun(client.finish(OTHER)) == [plan(1)]
    effects = client.request(task(plan(7, session="s2", attempt=2)))
    assert len(all_of(effects, Upload)) == 1
    assert abandoned(effects) == []
    assert len(all_of(client.finish(plan(1)), Upload)) == 1


def test_what_is_kept_for_another_session_is_deleted(client: ClientDriver) -> None:
    client.request(task(plan(4)))
    client.uploaded(one(client.finish(plan(4)), Upload))
    assert all_of(client.request(task(OTHER)), Forget) == [Forget("s1", 5)]
    assert begun(client.request(task(plan(4)))) == [plan(4)]


def test_of_a_session_only_the_newest_round_is_kept(client: ClientDriver) -> None:
    for of in (plan(1), plan(2)):
        client.request(task(of))
        client.uploaded(one(client.finish(of), Upload))
    assert all_of(client.request(task(OTHER)), Forget) == [Forget("s1", 3)]


def test_what_an_earlier_life_kept_for_another_session_is_deleted(new_client: NewClient) -> None:
    client = new_client(Attach(), finished(plan(4)), finished(OTHER))
    client.attach("k1")
    effects = client.request(task(OTHER))
    assert all_of(effects, Forget) == [Forget("s1", 5)]
    assert len(all_of(effects, Upload)) == 1


def test_a_kept_update_is_uploaded_beside_a_validation_under_way(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.uploaded(one(client.finish(plan(1)), Upload))
    client.request(task(plan(1, "validate")))
    effects = client.request(task(plan(1)))
    assert abandoned(effects) == []
    assert len(all_of(effects, Upload)) == 1
