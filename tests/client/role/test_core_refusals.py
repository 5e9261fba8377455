"""What a server refuses is requested again or reported; nobody waits for an answer that does not come."""

from __future__ import annotations

import pytest

from client.role.core_driver import ClientDriver, begun, plan, task
from fedmq.errors import ProtocolError, Refused
from fedmq.runtime.effects import Publish
from fedmq_client.role.operations import ProgressReported, Upload, task_key
from fedmq_schemas.messages import ClientHello, ClientPresence, Decline, Progress, Update, Validation
from support.cores import all_of, bodies, one

VALIDATE = plan(1, "validate")
WITH_URL = {"upload_key": "updates/u", "upload_url": "memory://1/put/updates/u"}
"""What a task of release 0.2 has."""


def test_a_refused_upload_is_followed_by_a_hello_to_the_combiner_that_requested_the_update(
    client: ClientDriver,
) -> None:
    """A combiner of release 0.2 answers a hello with the tasks that are still open, and these with fresh URLs."""
    client.request(task(plan(1), combiner="k2", **WITH_URL))
    upload = one(client.finish(plan(1)), Upload)
    assert client.failed(upload, Refused("the URL has expired")) != []
    hello = one(client.fire("hello:k2"), Publish)
    assert client.at == 1.0
    assert (hello.routing_key, hello.body) == ("update.k2.c1", ClientHello(tickets=True))


def test_after_a_refused_upload_the_task_that_comes_again_is_uploaded_again(client: ClientDriver) -> None:
    client.request(task(plan(1), **WITH_URL))
    client.failed(one(client.finish(plan(1)), Upload), Refused("the URL has expired"))
    client.fire("hello:k1")
    upload = one(client.request(task(plan(1), **WITH_URL)), Upload)
    assert len(bodies(client.uploaded(upload), Update)) == 1


def test_an_update_with_metrics_that_no_message_can_hold_is_declined_with_the_reason(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    published = one(client.uploaded(one(client.finish(plan(1), metrics={"x": 0.1}), Upload)), Publish)
    answer = one(client.failed(published, ProtocolError("metrics are too large")), Publish)
    assert (answer.exchange, answer.routing_key) == (published.exchange, published.routing_key)
    assert answer.body == Decline(plan=plan(1), outcome="failed", reason="metrics are too large")


def test_a_validation_with_metrics_that_no_message_can_hold_is_published_without_them(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    published = one(client.score(VALIDATE, accuracy=0.9), Publish)
    [validation] = bodies(client.failed(published, ProtocolError("metrics are too large")), Validation)
    assert (validation.plan, validation.metrics, validation.reason) == (VALIDATE, {}, "metrics are too large")


def test_a_validation_that_is_refused_without_metrics_is_not_published_for_ever(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    published = one(client.score(VALIDATE), Publish)
    assert client.failed(published, ProtocolError("no")) == []


def test_a_refused_message_that_nobody_waits_for_is_dropped(client: ClientDriver) -> None:
    presence = Publish("update", "update.k1.c1", ClientPresence())
    assert all_of(client.failed(presence, Refused("no queue")), Publish) == []


# -- a bug of the core --------------------------------------------------------------------------------------------------


def bug(*_: object, **__: object) -> None:
    raise ZeroDivisionError("oh")


def test_a_task_whose_answer_meets_a_bug_is_declined_and_the_next_one_begins(
    client: ClientDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task was never answered, and no other one was begun."""
    client.request(task(plan(1)))
    client.request(task(VALIDATE))
    monkeypatch.setattr("fedmq_client.role.uploads.Measure", bug)
    with pytest.raises(ZeroDivisionError):
        client.finish(plan(1))
    reason = "internal error: ZeroDivisionError('oh')"
    assert bodies(client.after_bug, Decline) == [Decline(plan=plan(1), outcome="failed", reason=reason)]
    assert begun(client.after_bug) == [VALIDATE]


def test_an_update_that_meets_a_bug_after_its_upload_is_declined(
    client: ClientDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.request(task(plan(1)))
    upload = one(client.finish(plan(1)), Upload)
    monkeypatch.setattr("fedmq_client.role.answers.Update", bug)
    with pytest.raises(ZeroDivisionError):
        client.uploaded(upload)
    assert [each.plan for each in bodies(client.after_bug, Decline)] == [plan(1)]


def test_a_validation_that_meets_a_bug_is_answered_with_the_reason(
    client: ClientDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.request(task(VALIDATE))
    monkeypatch.setattr("fedmq_client.role.answers.weight_of", bug)
    with pytest.raises(ZeroDivisionError):
        client.score(VALIDATE, accuracy=0.9)
    [validation] = bodies(client.after_bug, Validation)
    assert (validation.plan, validation.metrics) == (VALIDATE, {})
    assert validation.reason == "internal error: ZeroDivisionError('oh')"


def test_a_request_that_meets_a_bug_is_declined(client: ClientDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq_client.role.core.Tasks.is_late", bug)
    with pytest.raises(ZeroDivisionError):
        client.request(task(plan(1)))
    assert [each.plan for each in bodies(client.after_bug, Decline)] == [plan(1)]


def test_progress_that_meets_a_bug_costs_the_progress_alone(
    client: ClientDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.request(task(plan(1)))
    monkeypatch.setattr("fedmq_client.role.core.Progress", bug)
    with pytest.raises(ZeroDivisionError):
        client.progress(plan(1), 0.5)
    assert client.after_bug == []
    assert one(client.finish(plan(1)), Upload).task.plan == plan(1)


# -- texts that no message can hold -------------------------------------------------------------------------------------

ODD = "no \0 such \ud800 file " + "x" * 9_000


def test_a_reason_that_no_message_can_hold_is_cut_and_marked(client: ClientDriver) -> None:
    """The body of such a reason raised in the core, and nobody received an answer."""
    client.request(task(plan(1)))
    [decline] = bodies(client.finish(plan(1), "failed", reason=ODD, traceback=ODD), Decline)
    assert decline.reason.startswith("no ␀ such ? file x") and len(decline.reason) == 2_000
    assert set(decline.traceback) == {"x"} and len(decline.traceback) == 8_000


def test_a_failed_validation_whose_reason_no_message_can_hold_is_published(client: ClientDriver) -> None:
    client.request(task(VALIDATE))
    [validation] = bodies(client.finish(VALIDATE, "failed", reason=ODD, traceback=ODD), Validation)
    assert validation.reason.startswith("no ␀ such ? file x") and len(validation.reason) == 2_000


def test_a_refusal_whose_reason_no_message_can_hold_is_declined(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    published = one(client.uploaded(one(client.finish(plan(1), metrics={"x": 0.1}), Upload)), Publish)
    answer = one(client.failed(published, ProtocolError(ODD)), Publish)
    assert isinstance(answer.body, Decline) and answer.body.reason.startswith("no ␀ such ? file x")


def test_a_place_that_no_message_can_hold_is_marked(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    [progress] = bodies(client.handle(ProgressReported(task_key(plan(1)), 0.5, {}, "tra\0iner.py:3")), Progress)
    assert progress.place == "tra␀iner.py:3"
