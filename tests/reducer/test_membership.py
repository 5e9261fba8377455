"""Clients request a combiner: who is granted which one, and which part of a common data set is whose."""

from __future__ import annotations

import pytest

from fedmq import __version__
from fedmq.runtime.effects import Ack, Declare
from fedmq_reducer.operations import RecordClients
from fedmq_schemas.messages import VERSION, About, Attach, Grant
from fedmq_schemas.records import ClientRecord
from fedmq_schemas.topology import Topology
from reducer.membership import PERIOD, TERM, WALL, Members, answers, clients_of, grants, waits
from support.cores import all_of, events, one

VALIDATES = Attach(tasks=("validate",))

# -- grants ---------------------------------------------------------------------------------------------------------


def test_a_client_is_recorded_and_its_mailbox_declared_before_it_is_granted_a_combiner() -> None:
    members = Members("k1")
    members.at = 5.0
    attach = Attach(labels={"site": "a"}, weight=7, package="0" * 64, software="0.1")
    recorded, declared, granted, reported, acked = members.attach("c1", attach)
    assert clients_of([recorded])["c1"] == ClientRecord(
        client="c1",
        labels={"site": "a"},
        tasks=("train", "validate"),
        weight=7,
        package="0" * 64,
        software="0.1",
        combiner="k1",
        ordinal=0,
        state="away",
        last_seen=WALL + 5.0,
    )
    assert declared == Declare(Topology("a").client("c1"))
    assert grants([granted]) == {"c1": Grant(combiner="k1", ordinal=0, count=1, presence=PERIOD)}
    [event] = events([reported], "client.attached")
    assert (event.client, event.combiner) == ("c1", "k1")
    assert event.data == {"ordinal": 0, "tasks": ["train", "validate"]}
    assert acked == Ack((members.tag,))


def test_a_grant_that_answers_a_request_is_not_confirmed_and_expires() -> None:
    [published] = answers(Members("k1").attach("c1"))
    assert (published.exchange, published.confirm, published.expiration) == ("assignment", False, 60.0)


def test_each_client_is_granted_the_combiner_with_the_fewest_clients() -> None:
    members = Members("k2", "k1")
    for client in ("c1", "c2", "c3", "c4"):
        members.attach(client)
    assert [members.combiner_of(client) for client in ("c1", "c2", "c3", "c4")] == ["k1", "k2", "k1", "k2"]


def test_a_client_that_requests_again_keeps_its_combiner_and_its_ordinal_and_counts_once() -> None:
    members = Members("k1", "k2")
    members.attach("c1")
    assert grants(members.attach("c1"))["c1"] == Grant(combiner="k1", ordinal=0, count=1, presence=PERIOD)
    members.attach("c1")
    members.attach("c2")
    members.attach("c3")
    assert [members.combiner_of(client) for client in ("c1", "c2", "c3")] == ["k1", "k2", "k1"]


def test_a_client_that_attaches_anew_stays_present_and_is_recorded_with_what_it_sends_now() -> None:
    members = Members("k1")
    members.attach("c1")
    members.report("k1", ("c1",))
    record = clients_of(members.attach("c1", Attach(weight=9)))["c1"]
    assert (record.state, record.weight) == ("present", 9)


@pytest.mark.parametrize("name", ["reducer", "a.b", "", "x" * 65])
def test_a_sender_whose_name_no_client_can_have_gets_the_reason_and_is_not_recorded(name: str) -> None:
    members = Members("k1")
    effects = members.attach(name)
    assert waits(effects) == [f"{name!r} can't be a client's name"]
    assert effects[-1] == Ack((members.tag,))
    assert not members.assignment.clients


@pytest.mark.parametrize("speaks", [(VERSION + 1, VERSION + 2), (VERSION - 1, VERSION - 1)])
def test_a_client_of_another_protocol_version_gets_the_reason_and_is_not_recorded(speaks: tuple[int, int]) -> None:
    members = Members("k1")
    effects = members.attach("c1", Attach(speaks=speaks))
    assert waits(effects) == [f"the client speaks versions {speaks[0]} to {speaks[1]}, this alliance {VERSION}"]
    assert effects[-1] == Ack((members.tag,))
    assert not members.assignment.clients


def test_a_refused_client_is_reported_once_and_has_a_mailbox_for_the_answer() -> None:
    members = Members("k1")
    newer = Attach(speaks=(VERSION + 1, VERSION + 1), software="fedmq 9")
    refused = members.attach("c1", newer)
    assert one(refused, Declare).queue == Topology("a").client("c1")
    [event] = events(refused, "client.refused")
    assert (event.client, event.data["reason"], event.data["software"]) == ("c1", waits(refused)[0], "fedmq 9")
    again = members.attach("c1", newer)
    assert waits(again) and not events(again, "client.refused")
    members.attach("c1", Attach())
    assert events(members.attach("c1", newer), "client.refused")


def test_the_event_of_an_attached_client_names_its_instance() -> None:
    [event] = events(Members("k1").attach("c1", Attach(instance="a1")), "client.attached")
    assert event.data["instance"] == "a1"


# -- without a combiner ---------------------------------------------------------------------------------------------


def test_without_a_combiner_a_client_gets_a_mailbox_and_has_to_wait() -> None:
    members = Members()
    effects = members.attach("c1")
    assert one(effects, Declare).queue == Topology("a").client("c1")
    assert waits(effects) == ["no combiner is there yet"]
    assert effects[-1] == Ack((members.tag,))


def test_the_first_combiner_is_granted_to_all_clients_that_wait() -> None:
    members = Members()
    members.attach("c2")
    members.attach("c1")
    assert grants(members.join("k1")).keys() == {"c1", "c2"}
    assert grants(members.join("k2")) == {}


def test_a_client_that_waits_is_granted_a_combiner_once_however_often_it_requests_one() -> None:
    members = Members()
    members.attach("c1", Attach(weight=1))
    members.attach("c1", Attach(weight=2))
    effects = members.join("k1")
    assert len(answers(effects)) == 1
    assert clients_of(effects)["c1"].weight == 2


# -- ordinals -------------------------------------------------------------------------------------------------------


def test_ordinals_are_the_lowest_free_numbers_in_the_order_of_requests() -> None:
    members = Members("k1")
    assert [grants(members.attach(client))[client].ordinal for client in ("c9", "c1", "c5")] == [0, 1, 2]


def test_an_ordinal_is_free_again_when_its_client_is_gone() -> None:
    members = Members("k1")
    for client in ("c1", "c2", "c3"):
        members.attach(client)
        members.report("k1", (client,))
    members.report("k1", gone=("c2",))
    assert grants(members.attach("c4"))["c4"].ordinal == 1
    assert grants(members.attach("c5"))["c5"].ordinal == 3


def test_a_client_that_comes_back_gets_its_ordinal_again_if_it_is_still_free() -> None:
    members = Members("k1")
    for client in ("c1", "c2"):
        members.attach(client)
        members.report("k1", (client,))
    members.report("k1", gone=("c1", "c2"))
    assert grants(members.attach("c2"))["c2"].ordinal == 1
    assert grants(members.attach("c3"))["c3"].ordinal == 0
    assert grants(members.attach("c1"))["c1"].ordinal == 2


def test_a_client_that_does_not_train_has_no_ordinal() -> None:
    members = Members("k1")
    assert clients_of(members.attach("v", VALIDATES))["v"].ordinal is None
    assert grants(members.attach("c1"))["c1"].ordinal == 0


def test_a_grant_counts_the_parts_up_to_the_highest_ordinal_unless_their_number_is_fixed() -> None:
    growing, fixed = Members("k1"), Members("k1", partitions=8)
    assert [grants(growing.attach(client))[client].count for client in ("c1", "c2")] == [1, 2]
    assert [grants(fixed.attach(client))[client].count for client in ("c1", "c2")] == [8, 8]
    assert grants(Members("k1").attach("v", VALIDATES))["v"].count == 1


def test_a_client_that_is_present_again_after_its_ordinal_was_given_away_gets_another_one() -> None:
    members = Members("k1")
    for client in ("c1", "c2"):
        members.attach(client)
        members.report("k1", (client,))
    members.report("k1", gone=("c1",))
    members.attach("c3")
    assert members.ordinal_of("c3") == 0
    effects = members.report("k1", ("c1",))
    assert clients_of(effects)["c1"].ordinal == 2
    assert grants(effects)["c1"].ordinal == 2, "else two clients would have the same part of the data"


# -- who can take part ----------------------------------------------------------------------------------------------


def test_clients_that_are_present_and_do_a_task_are_eligible_for_it_by_name() -> None:
    members = Members("k1")
    for client, attach in {"c2": Attach(), "c1": Attach(), "c3": Attach(), "v": VALIDATES}.items():
        members.attach(client, attach)
    members.report("k1", ("c2", "c1", "v"))
    assert [client.name for client in members.assignment.eligible("train")] == ["c1", "c2"]
    assert [client.name for client in members.assignment.eligible("validate")] == ["c1", "c2", "v"]


def test_an_inquiry_is_answered_with_version_and_software_and_changes_nothing() -> None:
    members = Members("k1")
    for _ in range(2):
        effects = members.inquire("c1")
        [answer] = answers(effects)
        assert answer.body == About(software=f"fedmq {__version__}", speaks=(VERSION, VERSION))
        assert (answer.routing_key, answer.confirm) == ("assignment.c1", False)
        assert one(effects, Declare).queue == Topology("a").client("c1")
        assert effects[-1] == Ack((members.tag,))
    assert not members.assignment.clients
    assert members.inquire("reducer") == [Ack((members.tag,))]


# -- clients whose record is refused ------------------------------------------------------------------------------------


def test_a_client_whose_record_is_refused_is_unknown_and_leaves_its_place_free() -> None:
    members = Members("k1", "k2")
    [refused] = clients_of(members.attach("bad")).values()
    members.attach("c2")
    members.assignment.leave_out(refused)
    assert list(members.assignment.clients) == ["c2"]
    members.attach("c3")
    assert (members.combiner_of("c3"), members.ordinal_of("c3")) == ("k1", 0)
    assert waits(members.report("k1", ("bad",))) == ["it is not known here any more"]


def test_a_client_that_has_attached_with_other_words_since_stays() -> None:
    members = Members("k1")
    [refused] = clients_of(members.attach("c1", Attach(labels={"site": "bad"}))).values()
    members.attach("c1", Attach(labels={"site": "north"}))
    members.report("k1", ("c1",))
    members.assignment.leave_out(refused)
    assert members.is_present("c1")
    members.assignment.leave_out(refused.model_copy(update={"client": "c9"}))
    assert list(members.assignment.clients) == ["c1"]


def test_only_an_attach_fails_if_the_record_of_its_client_is_refused() -> None:
    """Reports, moves and grants after a wait concern other clients too: their records are left out instead."""
    members = Members()
    members.attach("c1")
    effects = members.join("k1")
    effects += members.report("k1", ("c1",))
    members.assignment.combiner_left("k1", members.now)
    effects += members.join("k2")
    members.report("k2", ("c1",))
    members.attach("c2")
    members.report("k2", ("c2",))
    members.join("k3")
    effects += members.assignment.rebalance(TERM)
    assert [each.is_known for each in all_of(effects, RecordClients)] == [True] * 4
    assert not one(members.attach("c2"), RecordClients).is_known
