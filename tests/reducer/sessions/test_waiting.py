"""A session that waits for clients: it reports for what and until when, and goes on as soon as enough are there."""

from __future__ import annotations

from fedmq.runtime.effects import StartTimer
from fedmq_reducer.operations import OpenSeed, RecordAttempt
from fedmq_schemas.messages import CombinerPresence
from fedmq_schemas.records import SessionChange
from support.cores import all_of, events, one

from .conftest import StartSession
from .driver import SEED, SessionDriver
from .records import ends, session_changes


def waiting(session: SessionDriver) -> list[str]:
    """What the session is recorded to wait for, in order."""
    effects = session.done(one(session.queue(), OpenSeed), SEED)
    return [change.waiting for change in session_changes(effects) if change.waiting]


def test_it_records_and_reports_for_what_it_waits_and_until_when(start: StartSession) -> None:
    session = start({"k1": ["c1"]}, clients_required=2, wait=100)
    effects = session.open()
    assert "waiting for clients, 1 of 2" in [change.waiting for change in session_changes(effects)]
    [event] = events(effects, "session.waiting")
    assert event.data == {"reason": "waiting for clients, 1 of 2", "waiting_until": 1_100.0}
    assert one(effects, StartTimer) == StartTimer("wait:s", 100)


def test_it_says_if_the_policy_is_why_too_few_may_take_part(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"]}, clients_required=2, clients={"exclude": ["c2"]})
    assert waiting(session) == ["waiting for clients, 1 of 2 (2 are there, the policy lets 1 take part)"]


def test_it_draws_as_soon_as_enough_clients_are_there(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"]}, clients_required=2)
    session.receive(CombinerPresence(clients=1, gone=("c2",)), "k1")
    session.open()
    assert not all_of(session.receive(CombinerPresence(clients=1), "k1"), RecordAttempt)
    effects = session.receive(CombinerPresence(clients=2, present=("c2",)), "k1")
    draw = one(effects, RecordAttempt)
    assert draw.record.plans[0].clients == ("c1", "c2")
    assert "wait:s" not in session.timers
    assert SessionChange(state="running", waiting="", waiting_until=None) in session_changes(session.done(draw))


def test_its_deadline_stays_however_often_the_number_of_clients_changes(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"]}, clients_required=3, wait=100)
    session.open()
    session.at = 60.0
    effects = session.receive(CombinerPresence(clients=1, gone=("c2",)), "k1")
    assert [event.data["waiting_until"] for event in events(effects, "session.waiting")] == [1_100.0]
    assert not all_of(effects, StartTimer)


def test_it_fails_when_the_time_is_over(start: StartSession) -> None:
    session = start({"k1": ["c1"]}, clients_required=2, wait=100)
    session.open()
    assert ends(session.fire("wait:s")) == [("failed", "gave up waiting for clients, 1 of 2 after 100 s")]


def test_a_stop_ends_it_while_it_waits(start: StartSession) -> None:
    session = start({"k1": ["c1"]}, clients_required=2)
    session.open()
    assert ends(session.stop("after_round")) == [("stopped", "stopped by operator")]


def test_a_fraction_of_the_clients_is_drawn_but_never_fewer_than_required(start: StartSession) -> None:
    clients = {"k1": [f"c{number}" for number in range(10)]}
    for fraction, required, expected in ((0.25, 1, 3), (0.1, 4, 4), (1.0, 1, 10)):
        session = start(clients, clients_required=required, clients={"fraction": fraction})
        [plan] = one(session.open(), RecordAttempt).record.plans
        assert len(plan.clients) == expected


def test_a_draw_depends_on_the_seed_and_not_on_combiners(start: StartSession) -> None:
    names = [f"c{number}" for number in range(8)]
    drawn = []
    for homes in ({"k1": names}, {"k1": names[:3], "k2": names[3:]}):
        session = start(homes, clients_requested=3)
        plans = one(session.open(), RecordAttempt).record.plans
        drawn.append(sorted(client for plan in plans for client in plan.clients))
    assert drawn[0] == drawn[1]
