"""A client or combiner that is away is forgotten on request; one that is present, or may be registering, is not."""

from __future__ import annotations

from typing import Literal

import pytest

from fedmq.errors import Fenced
from fedmq.records.base import Lease
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.effects import Ack, Declare, DeleteQueue, Effect, Received
from fedmq_reducer.members.forgetting import forget
from fedmq_reducer.members.membership import GRANT_EXPIRES
from fedmq_reducer.operations import ForgetMember
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, ForgetMemberRequest
from fedmq_schemas.records import CombinerRecord
from fedmq_schemas.topology import Topology
from reducer.membership import TERM, Members, grants, waits
from support.cores import events, one

ALLIANCE = Topology("a")


def _forgotten(members: Members, member: Literal["client", "combiner"], name: str) -> list[Effect]:
    body = ForgetMemberRequest(member=member, name=name)
    envelope = Envelope(kind="forget", id="m", alliance="a", sender="operator", sent_at=0.0)
    return forget(members.assignment, Received(body, envelope, 7), body, TERM, members.now)


def _refusal(members: Members, member: Literal["client", "combiner"], name: str) -> str:
    refused, acked = _forgotten(members, member, name)
    assert acked == Ack((7,))
    [event] = events([refused], "message.refused")
    return str(event.data["reason"])


def _departed(*clients: str) -> Members:
    """Returns members of which these clients were present and left; other clients may attach next."""
    members = Members("k1", "k2")
    for name in clients:
        members.attach(name)
        members.report(members.combiner_of(name), (name,))
    for name in clients:
        members.report(members.combiner_of(name), gone=(name,))
    return members


def test_a_client_that_is_away_is_deleted_with_its_mailbox_and_attaches_as_a_new_one() -> None:
    members = _departed("c1", "c2")
    deleted, unbound, published, acked = _forgotten(members, "client", "c1")
    assert deleted == ForgetMember(tables.CLIENTS, "client", "c1", TERM)
    assert unbound == DeleteQueue(ALLIANCE.client("c1").name)
    [event] = events([published], "client.forgotten")
    assert (event.client, event.data) == ("c1", {"reason": "asked for by operator"})
    assert acked == Ack((7,))
    assert "c1" not in members.assignment.clients
    attached = members.attach("c1")
    assert one(attached, Declare).queue == ALLIANCE.client("c1")
    assert grants(attached)["c1"].ordinal == 0


def test_a_forgotten_client_no_longer_counts_as_load_of_its_combiner() -> None:
    members = _departed("c1", "c2")
    _forgotten(members, "client", "c2")
    assert grants(members.attach("c3"))["c3"].combiner == "k2"
    assert grants(members.attach("c4"))["c4"].combiner == "k1"


def test_after_a_takeover_too_a_forgotten_client_no_longer_counts_and_present_ones_still_do() -> None:
    before, after = Members("k1", "k2"), Members()
    for name in ("c1", "c2", "c3"):
        before.attach(name)
        before.report(before.combiner_of(name), (name,))
    before.report("k1", gone=("c1",))
    homes = {name: client.combiner for name, client in before.assignment.clients.items()}
    assert homes == {"c1": "k1", "c2": "k2", "c3": "k1"}
    combiners = [CombinerRecord(combiner=name, state="present", last_seen=0.0) for name in ("k1", "k2")]
    records = [client.record() for client in before.assignment.clients.values()]
    after.assignment.restore(records, combiners, after.now.seconds)
    after.at += GRANT_EXPIRES
    _forgotten(after, "client", "c1")
    assert [grants(after.attach(name))[name].combiner for name in ("c4", "c5")] == ["k1", "k2"]


def test_a_present_client_and_a_present_combiner_are_refused() -> None:
    members = Members("k1")
    members.attach("c1")
    members.report("k1", ("c1",))
    assert _refusal(members, "client", "c1") == "client 'c1' is present and can't be forgotten: stop it first"
    assert _refusal(members, "combiner", "k1") == "combiner 'k1' is present and can't be forgotten: stop it first"
    assert "c1" in members.assignment.clients


def test_a_client_that_was_just_granted_a_combiner_is_refused_for_as_long_as_the_grant_is_valid() -> None:
    members = Members("k1")
    members.attach("c1")
    reason = "client 'c1' may be registering with combiner 'k1': try again in a minute"
    assert _refusal(members, "client", "c1") == reason
    members.at += GRANT_EXPIRES
    assert len(_forgotten(members, "client", "c1")) == 4


def test_a_client_that_was_moved_from_a_vanished_combiner_is_refused_as_it_may_live() -> None:
    members = Members("k1")
    members.attach("c1")
    members.report("k1", ("c1",))
    members.at = GRANT_EXPIRES + 1
    members.assignment.combiner_left("k1", members.now)
    members.join("k2")
    assert "may be registering with combiner 'k2'" in _refusal(members, "client", "c1")


def test_a_reducer_that_takes_over_refuses_for_a_minute_as_an_earlier_one_may_just_have_granted_the_combiner() -> None:
    before, after = _departed("c1"), Members()
    client = before.assignment.clients["c1"]
    combiner = CombinerRecord(combiner="k1", state="present", last_seen=0.0)
    after.assignment.restore([client.record()], [combiner], after.now.seconds)
    assert "may be registering with combiner 'k1'" in _refusal(after, "client", "c1")


def test_a_forgotten_client_that_still_lives_is_made_to_request_a_combiner_again() -> None:
    members = _departed("c1")
    _forgotten(members, "client", "c1")
    answer = members.report("k1", ("c1",))
    assert one(answer, Declare).queue == ALLIANCE.client("c1")
    assert waits(answer) == ["it is not known here any more"]
    assert grants(members.attach("c1"))["c1"].ordinal == 0


def test_a_combiner_that_is_away_is_deleted_with_its_inbox() -> None:
    deleted, *unbound, published, _ = _forgotten(Members("k1"), "combiner", "k2")
    assert deleted == ForgetMember(tables.COMBINERS, "combiner", "k2", TERM)
    assert unbound == [DeleteQueue(name) for name in ALLIANCE.combiner("k2").names]
    [event] = events([published], "combiner.forgotten")
    assert event.combiner == "k2"


def test_a_request_that_is_delivered_twice_deletes_nothing_more() -> None:
    members = _departed("c1")
    assert _forgotten(members, "client", "c1") == _forgotten(members, "client", "c1")


def test_only_the_reducer_with_the_lease_deletes() -> None:
    records = SqliteRecords(":memory:", clock=lambda: 0.0)
    for name in ("c1", "c2"):
        records.put(tables.CLIENTS, name, {"client": name})
    lease = records.acquire("r1", 10.0)
    assert isinstance(lease, Lease)
    effect = ForgetMember(tables.CLIENTS, "client", "c1", lease.epoch)
    with pytest.raises(Fenced):
        RecordPerformer("r2", records).forget_member(effect)
    assert records.count(tables.CLIENTS) == 2
    RecordPerformer("r1", records).forget_member(effect)
    assert [key for key, _ in records.page(tables.CLIENTS)] == ["c2"]
    records.close()
