"""Attempts that fail at once do not follow each other at once."""

from __future__ import annotations

from fedmq.runtime.effects import StartTimer
from fedmq_reducer.operations import RecordAttempt
from support.cores import all_of

from .driver import SessionDriver, partial
from .records import ends


def test_attempts_that_fail_at_once_start_after_growing_pauses() -> None:
    session = SessionDriver({"k1": ["c1"]}, retries=8)
    session.plan()
    pauses = []
    for attempt in range(1, 9):
        effects = session.receive(partial(attempt=attempt, accepted=0), "k1")
        assert not all_of(effects, RecordAttempt)
        [timer] = [each for each in all_of(effects, StartTimer) if each.key == "retry:s"]
        pauses.append(timer.seconds)
        session.next_plans(session.fire("retry:s"))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_session_is_stopped_in_the_pause_before_a_retry() -> None:
    session = SessionDriver({"k1": ["c1"]}, retries=1)
    session.plan()
    session.receive(partial(accepted=0), "k1")
    assert [state for state, _ in ends(session.stop())] == ["stopped"]
    assert "retry:s" not in session.timers
