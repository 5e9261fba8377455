"""An update is uploaded with a ticket: requested after the training, and again until it arrives or is refused."""

from __future__ import annotations

import pytest

from client.role.core_driver import SENT, ClientDriver, NewClient, finished, plan, task
from fedmq.blobs.base import UrlExpired
from fedmq.errors import NotFound
from fedmq.runtime.effects import Ack, Drained, Effect, Publish
from fedmq_client.role.operations import Measure, Upload
from fedmq_schemas.messages import Attach, ClientHello, Update, UploadRequest
from support.cores import all_of, bodies, one

REQUEST = UploadRequest(plan=plan(1), size=SENT.size, sha256=SENT.sha256)
TIMER = "ticket:s1/1"


@pytest.fixture
def client(client: ClientDriver) -> ClientDriver:
    """A client whose tickets the test sends."""
    client.permits = False
    return client


def trained(client: ClientDriver, combiner: str = "k1") -> list[Effect]:
    """The client has trained and measured its update."""
    client.request(task(plan(1), combiner=combiner))
    return client.measured(one(client.finish(plan(1)), Measure))


def test_a_client_requests_a_ticket_with_size_and_hash_of_what_it_has_trained(client: ClientDriver) -> None:
    published = one(trained(client, "k2"), Publish)
    assert (published.exchange, published.routing_key, published.confirm) == ("update", "update.k2.c1", True)
    assert published.body == REQUEST


def test_the_update_is_put_with_the_ticket_and_names_its_blob(client: ClientDriver) -> None:
    trained(client)
    effects = client.permit(REQUEST)
    upload = one(effects, Upload)
    assert effects[0] == Ack((client.tag,))
    assert (upload.url, upload.key, upload.ticket and upload.ticket.headers) == ("memory://1/put", SENT.key, {"x": "1"})
    [update] = bodies(client.uploaded(upload), Update)
    assert update.blob == SENT
    assert TIMER not in client.timers


def test_a_ticket_that_does_not_arrive_is_requested_again(client: ClientDriver) -> None:
    trained(client)
    for again in (10.0, 20.0):
        assert bodies(client.fire(TIMER), UploadRequest) == [REQUEST]
        assert client.at == again
    assert len(all_of(client.permit(REQUEST), Upload)) == 1


def test_a_ticket_is_used_once(client: ClientDriver) -> None:
    """A request that was published twice is answered twice."""
    trained(client)
    client.permit(REQUEST)
    assert client.permit(REQUEST) == [Ack((client.tag,))]


@pytest.mark.parametrize(
    "other", [{"plan": plan(1, attempt=2)}, {"sha256": "1" * 64}], ids=["another plan", "other content"]
)
def test_a_ticket_for_something_else_is_discarded(client: ClientDriver, other: dict[str, object]) -> None:
    trained(client)
    assert client.permit(REQUEST.model_copy(update=other)) == [Ack((client.tag,))]
    assert TIMER in client.timers


def test_another_ticket_is_requested_soon_after_the_url_of_one_has_expired(client: ClientDriver) -> None:
    trained(client)
    client.failed(one(client.permit(REQUEST), Upload), UrlExpired("403"))
    effects = client.fire(TIMER)
    assert (client.at, bodies(effects, UploadRequest)) == (1.0, [REQUEST])
    [update] = bodies(client.uploaded(one(client.permit(REQUEST), Upload)), Update)
    assert update.plan == plan(1)


def test_a_refused_ticket_ends_the_upload_and_the_update_is_kept(client: ClientDriver) -> None:
    trained(client)
    assert all_of(client.permit(REQUEST, url="", reason="late: the plan is closed"), Upload) == []
    assert set(client.timers) == {"presence"}
    again = client.request(task(plan(1, attempt=2)))
    assert one(again, Measure).result == finished(plan(1))


def test_a_kept_update_that_another_combiner_requests_needs_a_ticket_of_that_one(client: ClientDriver) -> None:
    trained(client)
    measure = one(client.request(task(plan(1, attempt=2), combiner="k2")), Measure)
    published = one(client.measured(measure), Publish)
    assert published.routing_key == "update.k2.c1"
    assert published.body == REQUEST.model_copy(update={"plan": plan(1, attempt=2)})
    assert all_of(client.permit(REQUEST), Upload) == [], "the earlier request is over"


def test_the_update_of_an_earlier_life_needs_a_ticket_too(new_client: NewClient) -> None:
    client = new_client(Attach(), finished(plan(1)))
    client.permits = False
    client.attach("k1")
    assert bodies(client.measured(one(client.request(task(plan(1))), Measure)), UploadRequest) == [REQUEST]


def test_no_ticket_is_requested_any_more_once_the_session_or_the_round_is_over(client: ClientDriver) -> None:
    trained(client)
    client.cancel(plan(0), session_over=True)
    assert set(client.timers) == {"presence"}


def test_a_later_round_ends_the_upload_of_an_earlier_one(client: ClientDriver) -> None:
    trained(client)
    client.request(task(plan(2)))
    assert TIMER not in client.timers
    assert all_of(client.permit(REQUEST), Upload) == []


def test_an_upload_that_fails_after_its_session_is_over_is_not_tried_again(client: ClientDriver) -> None:
    trained(client)
    upload = one(client.permit(REQUEST), Upload)
    client.cancel(plan(0), session_over=True)
    assert client.failed(upload, UrlExpired("403")) == []
    client.request(task(plan(1, session="s2")))
    measure = one(client.finish(plan(1, session="s2")), Measure)
    client.cancel(plan(0, session="s2"), session_over=True)
    assert client.measured(measure) == []


def test_an_update_whose_file_is_gone_is_trained_again_on_request(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.failed(one(client.finish(plan(1)), Measure), NotFound("no file"))
    assert bodies(client.fire("hello:k1"), ClientHello) == [ClientHello(tickets=True)]


# -- leaving --------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_waits_for_the_ticket_of_its_last_update(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.stop()
    client.measured(one(client.finish(plan(1)), Measure))
    upload = one(client.permit(REQUEST), Upload)
    assert Drained() in client.uploaded(upload)


def test_a_client_that_leaves_waits_for_a_ticket_no_longer_than_ten_seconds(client: ClientDriver) -> None:
    """Its combiner may be away. The update is kept, and published by the next process."""
    trained(client)
    assert client.stop() == []
    assert Drained() in client.fire(TIMER)
    assert client.at == 10.0


def test_a_ticket_that_nothing_waits_for_stays_in_the_mailbox_of_a_client_that_leaves(client: ClientDriver) -> None:
    client.request(task(plan(1)))
    client.stop()
    assert client.permit(REQUEST) == []
    assert len(client.unsettled) == 1


def test_a_delayed_request_of_another_session_costs_no_update_whose_ticket_is_awaited(client: ClientDriver) -> None:
    """The training was lost, and nothing published it again before the deadline of its round."""
    trained(client)
    client.request(task(plan(1, session="s0")))
    assert one(client.permit(REQUEST), Upload).result.key.session == "s1"
