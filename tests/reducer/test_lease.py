"""The lease: one reducer decides at a time, and what an earlier lease has asked for reaches nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedmq.errors import ConfigError, Fenced, NotFound, Refused
from fedmq.lease import HeldLease
from fedmq.runtime.effects import Ack, DeleteQueue, Drained, Reject, Resubscribe, Stopping
from fedmq_reducer.core import LeaseState
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import (
    Acquire,
    Aggregate,
    CheckLease,
    OpenSeed,
    RecordAttempt,
    RecordClients,
    RecordPartial,
    RecordRound,
    RecordSession,
    Release,
    Renew,
)
from fedmq_reducer.snapshot import Load, Snapshot
from fedmq_schemas.messages import Attach, ClientHello, CombinerHello, Plan, Start, Welcome
from fedmq_schemas.policy import Policy
from fedmq_schemas.topology import MAILBOX_EXPIRES
from support.cores import all_of, bodies, events, one

from .sessions.driver import SEED, SessionDriver, aggregated, partial
from .standby import Standby

OTHERS = HeldLease("other/3/17", 10.0)


@pytest.fixture
def standby() -> Iterator[Standby]:
    driver = Standby()
    yield driver
    driver.check()


@pytest.fixture
def session() -> Iterator[SessionDriver]:
    driver = SessionDriver({"k1": ["c1"], "k2": ["c2"]}, rounds=2, clients_required=2)
    yield driver
    driver.check()


def lease(driver: Standby | SessionDriver) -> LeaseState:
    return driver.reducer.lease


def test_a_reducer_that_takes_the_lease_reads_the_records_then_decides(standby: Standby) -> None:
    load = standby.activate(term=7)
    assert lease(standby) is LeaseState.LOADING
    effects = standby.done(load, Snapshot())
    assert lease(standby) is LeaseState.ACTIVE
    assert [event.data for event in events(effects, "reducer.active")] == [{"epoch": 7}]


def test_what_arrives_before_the_records_are_read_is_handled_afterwards(standby: Standby) -> None:
    load = standby.activate()
    assert standby.receive(CombinerHello(), "k1") == []
    effects = standby.done(load, Snapshot())
    assert [welcome.epoch for welcome in bodies(effects, Welcome)] == [7]
    assert effects[-1] == Ack((standby.tag,))


def test_one_question_is_asked_at_a_time_however_long_the_records_are_away(standby: Standby) -> None:
    assert [len(all_of(standby.fire("lease"), Acquire)) for _ in range(30)] == [0] * 30
    standby.done(standby.acquire, OTHERS)
    again = one(standby.fire("lease"), Acquire)
    standby.failed(again, ConfigError("no such account"))
    assert all_of(standby.fire("lease"), Acquire)


def test_a_standby_that_receives_messages_gives_them_back_after_a_moment(standby: Standby) -> None:
    standby.done(standby.acquire, OTHERS)
    hinted = one(standby.receive(CombinerHello(), "k1"), Acquire)
    assert not all_of(standby.done(hinted, OTHERS), Resubscribe), "the holder may just have died"
    asked = one(standby.fire("lease"), Acquire)
    assert all_of(standby.done(asked, OTHERS), Resubscribe)
    assert standby.unsettled == []


def test_a_standby_takes_a_lease_once_it_has_seen_no_renewal_for_as_long_as_the_lease_lasts(standby: Standby) -> None:
    standby.done(standby.acquire, OTHERS)
    asked: list[Acquire] = []
    while not asked or not asked[-1].lapsed:
        asked.append(one(standby.fire("lease"), Acquire))
        standby.done(asked[-1], OTHERS)
    assert standby.at == OTHERS.seconds
    assert asked[-1].lapsed == OTHERS.stamp


def test_each_renewal_that_a_standby_sees_begins_the_time_anew(standby: Standby) -> None:
    standby.done(standby.acquire, OTHERS)
    for renewal in range(20):
        asked = one(standby.fire("lease"), Acquire)
        assert not asked.lapsed
        standby.done(asked, HeldLease(f"other/3/{renewal}", 10.0))


@pytest.mark.parametrize("step", [86_400.0, -86_400.0], ids=["ahead", "behind"])
def test_a_wall_clock_that_steps_neither_hastens_nor_delays_a_take_over(standby: Standby, step: float) -> None:
    standby.done(standby.acquire, OTHERS)
    standby.done(one(standby.fire("lease"), Acquire), OTHERS)
    standby.step_wall(step)
    while not (asked := one(standby.fire("lease"), Acquire)).lapsed:
        standby.done(asked, OTHERS)
    assert standby.at == OTHERS.seconds


def test_a_lease_of_another_length_is_waited_for_that_long(standby: Standby) -> None:
    standby.done(standby.acquire, HeldLease("restore/3/1", 60.0))
    while not (asked := one(standby.fire("lease"), Acquire)).lapsed:
        standby.done(asked, HeldLease("restore/3/1", 60.0))
    assert standby.at == 60.0


def test_the_holder_keeps_its_lease_as_long_as_each_renewal_succeeds(session: SessionDriver) -> None:
    renewal = one(session.fire("lease"), Renew)
    assert session.done(renewal, True) == []
    assert lease(session) is LeaseState.ACTIVE


def test_a_lease_is_as_old_as_the_last_answer_that_confirms_it(standby: Standby) -> None:
    standby.done(standby.acquire, OTHERS)
    assert standby.reducer.renewed_at == 0
    standby.done(standby.done(one(standby.fire("lease"), Acquire), 7)[-1], Snapshot())
    assert standby.reducer.renewed_at == 1_003.0
    renewal = one(standby.fire("lease"), Renew)
    assert standby.reducer.renewed_at == 1_003.0
    standby.at += 0.5
    standby.done(renewal, True)
    assert standby.reducer.renewed_at == 1_006.5
    standby.done(one(standby.fire("lease"), Renew), False)
    assert standby.reducer.renewed_at == 1_006.5


@pytest.mark.parametrize("how", ["renewal", "fenced"])
def test_a_reducer_that_has_lost_the_lease_gives_everything_back(session: SessionDriver, how: str) -> None:
    session.plan()
    recording = one(session.receive(partial(0), "k1"), RecordPartial)
    if how == "renewal":
        effects = session.done(one(session.fire("lease"), Renew), False)
    else:
        effects = session.failed(recording, Fenced("term 7 is over"))
    assert all_of(effects, Resubscribe) and lease(session) is LeaseState.STANDBY
    assert session.reducer.sessions.current is None
    assert session.unsettled == []


def test_a_renewal_of_an_earlier_lease_that_fails_costs_nothing(session: SessionDriver) -> None:
    renewal = one(session.fire("lease"), Renew)
    session.failed(renewal, Fenced("term 7 is over"))
    session.done(one(session.fire("lease"), Acquire), 9)
    session.done(session.last(Load), Snapshot())
    assert session.done(renewal, False) == []
    assert lease(session) is LeaseState.ACTIVE


def test_records_that_were_read_under_an_earlier_lease_are_not_decided_on(standby: Standby) -> None:
    old = standby.activate(term=7)
    standby.failed(one(standby.fire("lease"), Renew), Fenced("term 7 is over"))
    new = one(standby.done(one(standby.fire("lease"), Acquire), 9), Load)
    assert standby.done(old, Snapshot()) == []
    assert lease(standby) is LeaseState.LOADING
    standby.done(new, Snapshot())
    assert (lease(standby), standby.reducer.term) == (LeaseState.ACTIVE, 9)


def test_records_that_cant_be_read_are_reported_and_another_reducer_may_try(standby: Standby) -> None:
    load = standby.activate()
    effects = standby.failed(load, Refused("a record of table clients can't be read"))
    [event] = events(effects, "actor.error")
    assert event.data["reason"] == "Load is refused: a record of table clients can't be read"
    standby.done(standby.start_over(), Snapshot())
    assert lease(standby) is LeaseState.ACTIVE


def test_records_are_read_once_at_a_time_however_long_that_takes(standby: Standby) -> None:
    standby.activate()
    assert [len(all_of(standby.fire("lease"), Load)) for _ in range(10)] == [0] * 10


def test_a_bug_while_taking_over_costs_no_more_than_a_crash(standby: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    load = standby.activate()
    standby.receive(CombinerHello(), "k1")
    with monkeypatch.context() as patch:
        patch.setattr(Membership, "note_combiner", None)
        with pytest.raises(TypeError):
            standby.done(load, Snapshot())
    load = standby.start_over()
    assert standby.unsettled == [], "the hello is given back"
    standby.done(load, Snapshot())
    assert lease(standby) is LeaseState.ACTIVE


def test_a_message_that_has_ended_a_take_over_by_an_exception_is_rejected_at_the_next_one(
    standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came again at each take-over, and no reducer ever decided anything."""
    load = standby.activate()
    standby.receive(CombinerHello(), "k1", message_id="bad")
    monkeypatch.setattr(Membership, "note_combiner", None)
    with pytest.raises(TypeError):
        standby.done(load, Snapshot())
    load = standby.start_over()
    standby.receive(CombinerHello(), "k1", message_id="bad")
    effects = standby.done(load, Snapshot())
    assert one(effects, Reject) == Reject(
        standby.tag, "internal error: this message has ended a take-over by an exception"
    )
    assert lease(standby) is LeaseState.ACTIVE


def test_a_message_that_is_refused_at_a_take_over_costs_no_other_one(standby: Standby) -> None:
    load = standby.activate()
    standby.receive(CombinerHello(), "k1")
    standby.receive(Attach(labels={"site": "bad"}), "c1")
    standby.receive(Attach(), "c2")
    standby.held = (RecordClients,)
    effects = standby.done(load, Snapshot())
    first, second = all_of(effects, RecordClients)
    standby.failed(first, Refused("key names must not contain NUL"))
    assert standby.dead_letters == [Attach(labels={"site": "bad"})]
    standby.done(second)
    assert standby.unsettled == []


def test_a_bug_in_the_answer_to_one_message_costs_that_message_alone(
    session: SessionDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.plan()
    with monkeypatch.context() as patch:
        patch.setattr(Membership, "note_combiner", None)
        with pytest.raises(TypeError):
            session.hello("k1")
    assert all_of(session.fire("lease"), Renew)


@pytest.mark.parametrize("question", [OpenSeed, RecordAttempt, Aggregate, RecordRound])
def test_an_answer_to_a_question_of_an_earlier_lease_reaches_nobody(session: SessionDriver, question: type) -> None:
    """The session goes on under the new lease, with a question of its own that is equal."""
    opening = one(session.queue(), OpenSeed)
    asked: dict[type, tuple[OpenSeed | RecordAttempt | Aggregate | RecordRound, object]] = {OpenSeed: (opening, SEED)}
    if question is not OpenSeed:
        drawing = one(session.done(opening, SEED), RecordAttempt)
        asked[RecordAttempt] = drawing, None
        if question is not RecordAttempt:
            session.done(drawing)
            aggregate = session.answer()
            asked[Aggregate] = aggregate, aggregated(1)
            if question is RecordRound:
                asked[RecordRound] = one(session.done(aggregate, aggregated(1)), RecordRound), None
    session.failed(one(session.fire("lease"), Renew), Fenced("term 7 is over"))
    effect, answer = asked[question]
    assert session.done(effect, answer) == [] and lease(session) is LeaseState.STANDBY
    session.done(one(session.fire("lease"), Acquire), 9)
    session.done(session.last(Load), Snapshot())
    assert session.failed(effect, NotFound("there is no blob")) == []


def test_an_effect_of_an_earlier_lease_that_is_refused_late_costs_nothing(session: SessionDriver) -> None:
    session.plan()
    old = one(session.receive(partial(0), "k1"), RecordPartial)
    session.failed(one(session.fire("lease"), Renew), Fenced("term 7 is over"))
    session.done(one(session.fire("lease"), Acquire), 9)
    session.done(session.last(Load), session.snapshot)
    session.plan()
    assert session.failed(old, NotFound("no such table")) == []


def test_a_hello_is_answered_while_the_lease_is_held_and_not_after_it(session: SessionDriver) -> None:
    session.plan()
    effects = session.hello("k1")
    kinds = [type(effect.body) for effect in effects if hasattr(effect, "body")]
    assert effects[0] == CheckLease(7) and effects[-1] == Ack((session.tag,))
    assert kinds == [Plan, Welcome]


def test_a_clean_stop_gives_the_lease_up(session: SessionDriver) -> None:
    assert session.handle(Stopping()) == [Release(7), Drained()]


def test_a_standby_stops_without_a_lease_to_give_up(standby: Standby) -> None:
    assert standby.handle(Stopping()) == [Drained()]


def test_after_a_reconnect_nothing_that_was_kept_is_handled_twice(standby: Standby) -> None:
    load = standby.activate()
    standby.receive(CombinerHello(), "k1")
    standby.reconnect()
    assert bodies(standby.done(load, Snapshot()), Welcome) == []


def test_a_message_that_a_reducer_does_not_receive_is_rejected(session: SessionDriver) -> None:
    effects = session.receive(ClientHello(), "c1")
    assert effects == [Reject(session.tag, "a reducer does not receive client_hello messages")]


def test_sessions_report_where_they_wait(session: SessionDriver) -> None:
    session.plan()
    where = session.reducer.waits()["s"]
    calls, _, wait = where.partition(" waits for ")
    names = [call.partition(" (")[0] for call in calls.split(" > ")]
    assert names == ["_run", "synchronous", "play", "_fault_of", "collect"]
    assert wait == "Answered or CombinersChanged or the timer 'round:s'"


def test_a_start_under_way_reports_where_it_waits(session: SessionDriver) -> None:
    session.receive(Start(policy=Policy()), "operator", message_id="t")
    assert session.reducer.waits()["t"].endswith("waits for the answer to RecordSession")
    session.done(session.last(RecordSession))


def test_only_the_reducer_with_the_lease_deletes_the_inbox_of_a_combiner_that_has_been_away_for_long() -> None:
    driver = SessionDriver({"k1": ["c1"], "k2": []})
    driver.leave("k2")
    driver.at += MAILBOX_EXPIRES
    driver.hello("k1")
    effects = driver.fire("presence")
    check = one(effects, CheckLease)
    assert effects[effects.index(check) + 1 :] == [DeleteQueue("a.combiner.k2.v2"), DeleteQueue("a.combiner.k2.v1")]
    assert all_of(driver.failed(check, Fenced("term 7 is over")), Resubscribe)


def test_the_inbox_of_a_combiner_that_has_been_away_for_long_stays_while_a_round_waits_for_its_partial() -> None:
    driver = SessionDriver({"k1": ["c1"]}, clients_required=1)
    driver.plan()
    driver.leave("k1")
    driver.at += MAILBOX_EXPIRES
    assert not all_of(driver.fire("presence"), DeleteQueue)
