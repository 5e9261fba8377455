"""A client that is asked to end begins nothing new, publishes what it has finished, and then says goodbye."""

from __future__ import annotations

from collections.abc import Sequence

from client.role.core_driver import ClientDriver, NewClient, begun, plan, task
from fedmq.errors import ProtocolError, Refused
from fedmq.runtime.effects import Drained, Effect, Publish, Stopping
from fedmq_client.role.core import State
from fedmq_client.role.operations import Upload
from fedmq_schemas.messages import ClientPresence, Decline, Update
from support.cores import all_of, bodies, one

GOODBYE = [Publish("update", "update.k1.c1", ClientPresence(leaving=True)), Drained()]


def has_left(effects: Sequence[Effect]) -> bool:
    return Drained() in effects


def test_an_idle_client_says_goodbye_at_once(client: ClientDriver) -> None:
    assert client.stop() == GOODBYE


def test_a_client_that_was_never_attached_just_leaves(new_client: NewClient) -> None:
    assert new_client().stop() == [Drained()]


def test_work_under_way_is_finished_uploaded_and_published_before_the_goodbye(client: ClientDriver) -> None:
    client.request(task(plan(1)))

    assert client.stop() == []
    upload = one(client.finish(plan(1)), Upload)
    update, *goodbye = client.uploaded(upload)

    assert isinstance(update, Publish) and isinstance(update.body, Update)
    assert goodbye == GOODBYE
    assert client.client.state is State.LEFT


def test_work_without_a_result_is_reported_before_the_goodbye(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.stop()
    effects = client.finish(plan(1), "failed", reason="no data")
    assert len(bodies(effects, Decline)) == 1
    assert effects[-2:] == GOODBYE


def test_a_refused_upload_does_not_hold_the_client_back(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    upload = one(client.finish(plan(1)), Upload)

    assert client.stop() == []
    assert has_left(client.failed(upload, Refused("gone")))


def test_a_last_answer_that_is_refused_is_reported_and_the_goodbye_behind_it_repeated(client: ClientDriver) -> None:
    """The refusal drops the rest of the group, in which the goodbye was."""
    client.request(task(plan(1)))
    client.stop()
    update, *_ = client.uploaded(one(client.finish(plan(1)), Upload))
    decline, *goodbye = client.failed(update, ProtocolError("metrics are too large"))
    assert isinstance(decline, Publish) and isinstance(decline.body, Decline)
    assert goodbye == GOODBYE


def test_a_goodbye_that_is_refused_does_not_hold_the_client_back(client: ClientDriver) -> None:
    presence, _ = client.stop()
    assert client.failed(presence, Refused("no queue")) == [Drained()]


def test_progress_is_published_while_the_client_is_leaving(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.stop()
    assert len(all_of(client.progress(plan(1), 0.5), Publish)) == 1


def test_tasks_that_wait_are_not_begun(client: ClientDriver) -> None:
    client.request(task(plan(1, "validate")))
    client.request(task(plan(1)))
    client.stop()
    effects = client.finish(plan(1, "validate"))
    assert begun(effects) == []
    assert has_left(effects)


def test_a_task_that_comes_while_the_client_is_leaving_stays_in_its_mailbox(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.stop()
    assert client.request(task(plan(2))) == []
    assert client.unsettled == [task(plan(2))]


def test_nothing_is_published_after_the_goodbye(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.stop()
    client.uploaded(one(client.finish(plan(1)), Upload))
    assert client.handle(Stopping()) == []
    assert client.finish(plan(1)) == []
    assert client.fire("presence") == []
