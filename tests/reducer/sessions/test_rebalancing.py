"""Clients are moved between two rounds, so that a combiner that was added relieves the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedmq.runtime.effects import Declare, Effect, Publish
from fedmq_reducer.members.client_member import ClientMember
from fedmq_reducer.operations import Aggregate, RecordAttempt, RecordClients, RecordRound
from fedmq_schemas.messages import CombinerHello, Grant, Plan
from fedmq_schemas.topology import Topology
from support.cores import all_of, bodies, events, one

from .driver import SessionDriver, aggregated, partial


@pytest.fixture
def session() -> Iterator[SessionDriver]:
    driver = SessionDriver({"k1": ["c1", "c2", "c3", "c4"]}, rounds=3, clients_required=4, retries=1)
    yield driver
    driver.check()


def parts(plans: list[Plan]) -> list[tuple[str, ...]]:
    return [plan.clients for plan in plans]


def commit(session: SessionDriver) -> list[Effect]:
    """The first round has all updates and is committed; returns the effects, with the draw of the next one."""
    aggregate = one(session.receive(partial(accepted=4), "k1"), Aggregate)
    return session.done(one(session.done(aggregate, aggregated(1)), RecordRound))


def test_a_second_combiner_takes_half_of_the_clients_in_the_next_round(session: SessionDriver) -> None:
    assert parts(session.plan()) == [("c1", "c2", "c3", "c4")]
    session.receive(CombinerHello(), "k2")
    draw = one(commit(session), RecordAttempt)
    assert [(part.combiner, part.clients) for part in draw.record.plans] == [("k1", ("c1", "c2")), ("k2", ("c3", "c4"))]
    effects = session.done(draw)
    assert parts(bodies(effects, Plan)) == [("c1", "c2"), ("c3", "c4")]


def test_the_moved_clients_are_recorded_granted_and_reported_once_the_draw_is_recorded(session: SessionDriver) -> None:
    session.plan()
    session.receive(CombinerHello(), "k2")
    effects = commit(session)
    moved = [each.records[0] for each in all_of(effects, RecordClients)]
    assert [(client.client, client.combiner, client.state) for client in moved] == [
        ("c3", "k2", "present"),
        ("c4", "k2", "present"),
    ]
    assert [grant.combiner for grant in bodies(effects, Grant)] == ["k2", "k2"]
    assert [(event.client, event.combiner, event.data) for event in events(effects, "client.reassigned")] == [
        ("c3", "k2", {"former": "k1"}),
        ("c4", "k2", {"former": "k1"}),
    ]
    assert effects.index(one(effects, RecordAttempt)) < effects.index(all_of(effects, RecordClients)[0])


def test_a_moved_client_has_a_mailbox_for_its_grant_which_the_broker_confirms(session: SessionDriver) -> None:
    session.plan()
    session.receive(CombinerHello(), "k2")
    effects = commit(session)
    granted = [each for each in all_of(effects, Publish) if isinstance(each.body, Grant)]
    assert [(each.routing_key, each.confirm) for each in granted] == [("assignment.c3", True), ("assignment.c4", True)]
    for name, grant in zip(("c3", "c4"), granted, strict=True):
        assert effects.index(Declare(Topology("a").client(name))) < effects.index(grant)


def test_clients_that_are_away_are_not_moved(session: SessionDriver) -> None:
    session.plan()
    session.reducer.members.clients["c5"] = ClientMember("c5", {}, ("validate",), 1, None, "", "k1", None)
    session.receive(CombinerHello(), "k2")
    assert [each.records[0].client for each in all_of(commit(session), RecordClients)] == ["c3", "c4"]


def test_nobody_is_moved_within_a_round_nor_between_its_attempts(session: SessionDriver) -> None:
    session.plan()
    assert bodies(session.receive(CombinerHello(), "k2"), Grant) == []
    effects = session.after_pause(session.receive(partial(accepted=3), "k1"))
    again = one(effects, RecordAttempt)
    assert [(part.combiner, part.clients) for part in again.record.plans] == [("k1", ("c1", "c2", "c3", "c4"))]
    assert bodies([*effects, *session.done(again)], Grant) == []


def test_a_rule_that_needs_one_combiner_keeps_its_clients_there() -> None:
    session = SessionDriver({"k1": ["c1", "c2"]}, rounds=2, clients_required=2, strategy={"rule": "median"})
    session.plan()
    session.receive(CombinerHello(), "k2")
    assert [part.combiner for part in one(commit(session), RecordAttempt).record.plans] == ["k1"]
    session.check()
