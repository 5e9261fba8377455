"""Combiners report which clients are present; clients of a combiner that is gone are moved."""

from __future__ import annotations

from typing import Literal

import pytest

from fedmq.runtime.effects import DeleteQueue, Effect
from fedmq_reducer.members.client_member import ClientMember
from fedmq_schemas.messages import Attach, CombinerPresence, Grant, Stall
from fedmq_schemas.records import CombinerRecord
from fedmq_schemas.topology import MAILBOX_EXPIRES
from reducer.membership import PERIOD, WALL, Members, answers, clients_of, combiners_of, grants
from support.cores import events


def members_of_k1(*clients: str) -> Members:
    """Returns two combiners, and clients that are present at the first."""
    members = Members("k1")
    for client in clients:
        members.attach(client)
    members.join("k2")
    members.report("k1", clients)
    return members


# -- combiners ------------------------------------------------------------------------------------------------------


def test_a_combiner_that_joins_is_reported_and_recorded_once() -> None:
    members = Members()
    members.at = 2.0
    effects = members.join("k1")
    assert [event.combiner for event in events(effects, "combiner.joined")] == ["k1"]
    assert combiners_of(effects) == {
        "k1": CombinerRecord(combiner="k1", state="present", last_seen=WALL + 2.0, clients=0)
    }
    assert members.join("k1") == []


def test_each_report_of_a_combiner_is_recorded_with_the_number_of_its_clients() -> None:
    members = members_of_k1("c1", "c2")
    members.at = 7.0
    assert combiners_of(members.report("k1", ("c1", "c2"))) == {
        "k1": CombinerRecord(combiner="k1", state="present", last_seen=WALL + 7.0, clients=2)
    }


def test_what_a_combiner_waits_for_is_recorded_until_it_reports_nothing() -> None:
    members = members_of_k1("c1")
    stall = Stall(store="blob_store", reason="it is full", effect="Close", since=WALL)
    beat = CombinerPresence(clients=1, stalls=(stall,))
    [record] = combiners_of(members.assignment.presence("k1", beat, members.now)).values()
    assert record.document()["stalls"] == [stall.model_dump()]
    [record] = combiners_of(members.report("k1", ("c1",))).values()
    assert "stalls" not in record.document()


# -- presence -------------------------------------------------------------------------------------------------------


def test_clients_that_come_or_go_are_recorded_with_the_time() -> None:
    members = members_of_k1("c1", "c2")
    members.attach("c3")
    members.at = 7.0
    written = clients_of(members.report(members.combiner_of("c3"), ("c3",)))
    assert {name: (each.state, each.last_seen) for name, each in written.items()} == {"c3": ("present", WALL + 7)}
    written = clients_of(members.report("k1", gone=("c1",)))
    assert {name: each.state for name, each in written.items()} == {"c1": "away"}
    assert members.is_present("c2")


def test_a_report_without_a_change_or_of_a_client_that_never_attached_records_none() -> None:
    members = members_of_k1("c1")
    assert clients_of(members.report("k1", ("c1",))) == {}
    for strangers in (members.report("k1", gone=("stranger",)), members.report("k1", ("stranger",))):
        assert clients_of(strangers) == {}
    assert "stranger" not in members.assignment.clients


def test_clients_that_a_full_report_does_not_list_are_away() -> None:
    members = members_of_k1("c1", "c2", "c3")
    assert clients_of(members.report("k1", ("c2",), full=True)).keys() == {"c1", "c3"}
    assert [members.is_present(client) for client in ("c1", "c2", "c3")] == [False, True, False]


def test_a_full_report_in_several_messages_counts_when_the_last_one_is_there() -> None:
    members = members_of_k1("c1", "c2", "c3")
    assert clients_of(members.report("k1", ("c1",), full=True, more=True)) == {}
    assert clients_of(members.report("k1", ("c3",), full=True)).keys() == {"c2"}
    assert clients_of(members.report("k1", ("c1",), full=True)).keys() == {"c3"}


def test_a_full_report_does_not_touch_the_clients_of_another_combiner() -> None:
    members = members_of_k1("c1")
    members.report("k2", full=True)
    assert members.is_present("c1")


def test_a_client_at_another_combiner_than_its_own_is_granted_its_own_again() -> None:
    members = members_of_k1("c1")
    effects = members.report("k2", ("c1",))
    [published] = answers(effects)
    assert grants(effects)["c1"].combiner == "k1"
    assert published.confirm, "the client does not request it, and so not again"
    assert clients_of(effects) == {}


def test_only_its_own_combiner_can_report_a_client_gone() -> None:
    members = members_of_k1("c1")
    members.report("k2", gone=("c1",))
    assert members.is_present("c1")


# -- disagreement ---------------------------------------------------------------------------------------------------


def test_a_combiner_with_another_number_of_clients_than_known_disagrees() -> None:
    members = members_of_k1("c1", "c2")
    assert not members.disagrees("k1", 2)
    assert members.disagrees("k1", 1)
    assert members.disagrees("k1", 3)
    assert not members.disagrees("k2", 0)
    members.report("k1", gone=("c2",))
    assert not members.disagrees("k1", 1)


def test_a_report_of_changes_or_of_all_clients_can_not_disagree() -> None:
    members = members_of_k1("c1")
    assert not members.disagrees("k1", 2, ("c2",))
    assert not members.disagrees("k1", 2, full=True)


# -- combiners that are gone ----------------------------------------------------------------------------------------


def test_the_clients_of_a_combiner_that_left_are_moved_to_those_with_the_fewest() -> None:
    members = members_of_k1("c1", "c2", "c3")
    members.join("k3")
    effects = members.assignment.combiner_left("k1", members.now)
    assert combiners_of(effects)["k1"].state == "away"
    assert [event.data["reason"] for event in events(effects, "combiner.vanished")] == ["it left"]

    effects = members.move()
    moved = clients_of(effects)
    assert {name: each.combiner for name, each in moved.items()} == {"c1": "k2", "c2": "k3", "c3": "k2"}
    assert {each.state for each in moved.values()} == {"away"}
    assert grants(effects).keys() == {"c1", "c2", "c3"}
    assert all(publish.confirm for publish in answers(effects))
    assert members.move() == []


def test_a_client_that_is_moved_keeps_its_ordinal_and_is_present_once_its_new_combiner_reports_it() -> None:
    members = members_of_k1("c1", "c2")
    members.assignment.combiner_left("k1", members.now)
    effects = members.move()
    assert grants(effects)["c2"] == Grant(combiner="k2", ordinal=1, count=2, presence=PERIOD)
    members.report("k2", ("c1", "c2"))
    assert [client.ordinal for client in members.assignment.eligible("train")] == [0, 1]


def test_a_combiner_expires_after_three_periods_without_a_sign_of_life() -> None:
    members = members_of_k1("c1")
    members.at = 3 * PERIOD
    assert members.assignment.expire(members.now) == []
    members.join("k2")
    members.at += 0.1
    effects = members.assignment.expire(members.now)
    assert [event.combiner for event in events(effects, "combiner.vanished")] == ["k1"]
    assert combiners_of(effects) == {
        "k1": CombinerRecord(combiner="k1", state="away", last_seen=WALL + members.at, clients=0)
    }
    assert {name: grant.combiner for name, grant in grants(members.move()).items()} == {"c1": "k2"}


def test_clients_of_the_last_combiner_stay_until_another_one_joins() -> None:
    members = Members("k1")
    members.attach("c1")
    members.assignment.combiner_left("k1", members.now)
    assert members.move() == []
    assert grants(members.join("k2"))["c1"].combiner == "k2"


def test_a_client_of_a_combiner_that_is_gone_is_granted_another_one_when_it_requests_one() -> None:
    members = members_of_k1("c1")
    members.assignment.combiner_left("k1", members.now)
    assert grants(members.attach("c1"))["c1"].combiner == "k2"
    assert members.move() == []


def test_a_combiner_that_comes_back_is_granted_to_new_clients_first() -> None:
    members = members_of_k1("c1", "c2")
    members.assignment.combiner_left("k1", members.now)
    members.move()
    members.join("k1")
    for client in ("c3", "c4"):
        members.attach(client)
        assert members.combiner_of(client) == "k1"


# -- taking over ----------------------------------------------------------------------------------------------------


def combiner(name: str, state: Literal["present", "away"]) -> CombinerRecord:
    return CombinerRecord(combiner=name, state=state, last_seen=0.0, clients=0)


def taken_over(before: Members, at: float = 0.0) -> Members:
    """Returns the membership of a reducer that reads what another one has recorded."""
    after = Members()
    after.at = at
    clients = [client.record() for client in before.assignment.clients.values()]
    combiners = [combiner(name, "present") for name in before.assignment.combiners]
    after.assignment.restore(clients, [*combiners, combiner("k9", "away")], after.now.seconds)
    return after


def test_a_reducer_that_takes_over_knows_the_same_clients_and_combiners() -> None:
    before = members_of_k1("c1", "c2")
    before.attach("v", Attach(tasks=("validate",)))
    after = taken_over(before)
    assert list(after.assignment.combiners) == ["k1", "k2"]
    assert after.assignment.clients == before.assignment.clients


def test_a_reducer_that_takes_over_grants_the_lowest_ordinal_that_no_present_client_has() -> None:
    before = members_of_k1("c1", "c2", "c3")
    before.report("k1", gone=("c1", "c2"))
    after = taken_over(before)
    assert [grants(after.attach(client))[client].ordinal for client in ("c4", "c5", "c6")] == [0, 1, 3]


def test_a_reducer_that_takes_over_counts_present_clients_when_it_grants_combiners() -> None:
    after = taken_over(members_of_k1("c1"))
    after.attach("c2")
    assert after.combiner_of("c2") == "k2"


def test_a_reducer_that_takes_over_waits_three_periods_for_a_heartbeat_of_each_combiner() -> None:
    after = taken_over(members_of_k1("c1"), at=500.0)
    after.at = 500.0 + 3 * PERIOD
    assert after.assignment.expire(after.now) == []
    after.at += 0.1
    assert combiners_of(after.assignment.expire(after.now)).keys() == {"k1", "k2"}


def test_taking_over_forgets_what_was_known_before() -> None:
    members = members_of_k1("c1")
    members.assignment.restore([], [], 0.0)
    assert (len(members.assignment.clients), len(members.assignment.combiners)) == (0, 0)
    assert grants(members.attach("c2")) == {}
    members.assignment.restore([], [], 0.0)
    assert grants(members.join("k1")) == {}, "a client that had to wait requests again"


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("ordinal", [0, None])
def test_a_client_is_restored_from_its_record(present: bool, ordinal: int | None) -> None:
    tasks = ("train", "validate")
    client = ClientMember("c1", {"site": "north"}, tasks, 7, "a" * 64, "fedmq 1", "k1", ordinal, present, last_seen=4.0)
    assert ClientMember.of(client.record()) == client


# -- the inboxes of those who left ------------------------------------------------------------------------------------


def _expire(members: Members, *open_plans: str) -> list[Effect]:
    return members.assignment.expire_inboxes(set(open_plans).__contains__, members.now)


def _left(members: Members, combiner: str) -> Members:
    members.assignment.combiner_left(combiner, members.now)
    return members


DELETED = [DeleteQueue("a.combiner.k1.v2"), DeleteQueue("a.combiner.k1.v1")]


def test_the_inbox_of_a_combiner_that_has_been_away_for_seven_days_is_deleted_once() -> None:
    members = _left(Members("k1", "k2"), "k1")
    members.at = MAILBOX_EXPIRES - 1
    assert _expire(members) == []
    members.at = MAILBOX_EXPIRES
    assert _expire(members) == DELETED
    assert _expire(members) == []


def test_an_inbox_stays_while_a_plan_of_its_combiner_is_open() -> None:
    members = _left(Members("k1", "k2"), "k1")
    members.at = MAILBOX_EXPIRES
    assert _expire(members, "k1") == []
    assert _expire(members) == DELETED


def test_the_inbox_of_a_combiner_that_returned_stays() -> None:
    members = _left(Members("k1"), "k1")
    members.at = MAILBOX_EXPIRES
    members.join("k1")
    assert _expire(members) == []


def test_a_reducer_that_takes_over_deletes_the_inbox_by_the_recorded_time() -> None:
    members = Members()
    seen = members.now.wall
    record = CombinerRecord(combiner="k1", state="away", last_seen=seen)
    members.assignment.restore([], [record], members.now.seconds)
    assert _expire(members) == []
    members.at = MAILBOX_EXPIRES
    assert _expire(members) == DELETED
