"""A client requests a combiner from the reducer, registers with the combiner that it is granted, and reports its
presence there."""

from __future__ import annotations

from client.role.core_driver import ClientDriver, NewClient, plan, task
from fedmq.errors import Refused
from fedmq.runtime.effects import Ack, Effect, Fired, Publish, Reject
from fedmq_client.role.core import State
from fedmq_client.role.operations import AssignPart
from fedmq_schemas.messages import About, Attach, ClientHello, ClientPresence, Grant, Wait, Welcome
from support.cores import all_of, one

ATTACH = Attach(labels={"site": "a"}, tasks=("train",), weight=7)
REQUEST = Publish("assignment", "assignment.reducer.c1", ATTACH)
HELLO = Publish("update", "update.k1.c1", ClientHello(tickets=True))


def publishes(effects: list[Effect]) -> list[Publish]:
    return all_of(effects, Publish)


def test_a_started_client_requests_a_combiner_and_repeats_that_every_ten_seconds(new_client: NewClient) -> None:
    client = new_client(ATTACH)
    assert client.timers == {"attach": 10.0}
    assert publishes(client.start()) == [REQUEST]
    assert publishes(client.fire("attach")) == [REQUEST]
    assert client.timers == {"attach": 20.0}
    assert (client.client.state, client.client.combiner) == (State.ATTACHING, None)


def test_a_client_that_has_to_wait_requests_again_after_the_time_that_it_was_given(new_client: NewClient) -> None:
    client = new_client(ATTACH)
    assert publishes(client.receive(Wait(seconds=5.0, reason="no combiner"), sender="reducer")) == []
    assert client.timers == {"attach": 5.0}
    assert publishes(client.fire("attach")) == [REQUEST]


def test_a_request_that_no_queue_takes_is_repeated_after_a_second(new_client: NewClient) -> None:
    client = new_client(ATTACH)
    assert publishes(client.failed(REQUEST, Refused("no queue"))) == []
    assert client.timers == {"attach": 1.0}


def test_a_granted_client_registers_with_its_combiner_and_knows_its_part_of_the_data(new_client: NewClient) -> None:
    client = new_client(ATTACH)
    effects = client.attach("k1", ordinal=3, count=8, presence=4.0)
    part = one(effects, AssignPart)
    assert (part.ordinal, part.count) == (3, 8)
    assert publishes(effects) == [HELLO]
    assert client.timers == {"presence": 4.0}
    assert (client.client.state, client.client.combiner) == (State.ATTACHED, "k1")


def test_presence_is_reported_every_period_and_not_confirmed(new_client: NewClient) -> None:
    client = new_client()
    client.attach("k1", presence=4.0)
    for at in (4.0, 8.0):
        effects = client.fire("presence")
        assert client.at == at
        assert publishes(effects) == [Publish("update", "update.k1.c1", ClientPresence(), confirm=False)]


def test_the_same_grant_again_is_answered_by_a_hello_as_the_first_may_be_lost(client: ClientDriver) -> None:
    assert publishes(client.attach("k1")) == [HELLO]


def test_a_grant_of_another_combiner_moves_the_client_there(client: ClientDriver) -> None:
    hello, goodbye = publishes(client.attach("k2", presence=4.0))
    assert (hello.routing_key, hello.body) == ("update.k2.c1", ClientHello(tickets=True))
    assert goodbye == Publish("update", "update.k1.c1", ClientPresence(leaving=True, reassigned=True), confirm=False)
    assert publishes(client.attach("k2", presence=4.0)) == [hello], "it left the other one already"
    [presence] = publishes(client.fire("presence"))
    assert (client.at, presence.routing_key) == (4.0, "update.k2.c1")


def test_work_of_the_combiner_before_is_answered_to_that_combiner(client: ClientDriver) -> None:
    client.request(task(plan(), combiner="k1"))
    client.attach("k2")
    [decline] = publishes(client.finish(plan(), "failed"))
    assert decline.routing_key == "update.k1.c1"


def test_an_attached_client_whose_link_was_lost_registers_and_requests_again_as_it_may_have_been_moved(
    client: ClientDriver,
) -> None:
    effects = client.reconnect()
    assert [each.routing_key for each in publishes(effects)] == ["update.k1.c1", "assignment.reducer.c1"]
    assert set(client.timers) == {"attach", "presence"}


def test_a_client_without_a_combiner_whose_link_was_lost_only_requests_again(new_client: NewClient) -> None:
    assert publishes(new_client(ATTACH).reconnect()) == [REQUEST]


def test_a_message_that_is_not_for_clients_is_rejected_with_the_reason(client: ClientDriver) -> None:
    effects = client.receive(Welcome(epoch=1, presence=10.0), sender="reducer")
    assert effects == [Reject(client.tag, "a client does not receive welcome messages")]


def test_a_timer_that_nobody_waits_for_any_more_does_nothing(client: ClientDriver) -> None:
    assert client.handle(Fired("abandon:s1/1/train/1/0")) == []


def test_grants_and_waits_are_acknowledged(client: ClientDriver) -> None:
    for body in (
        Wait(seconds=1.0, reason=""),
        About(software="fedmq 9", speaks=(1, 1)),
        Grant(combiner="k1", ordinal=0, count=1, presence=10.0),
    ):
        assert client.receive(body, sender="reducer")[0] == Ack((client.tag,))
