"""Events to open rounds."""

from __future__ import annotations

from typing import Any

from dashboard.events import event
from fedmq_dashboard.feed import EventFeed


def planned(at: float, round_number: int = 1, attempt: int = 1) -> dict[str, Any]:
    return event("round.planned", at, round_number, attempt=attempt, clients=3, combiners=1, timeout=60.0)


def test_a_planned_round_is_open_until_its_deadline() -> None:
    feed = EventFeed()
    feed.apply([planned(100.0)])
    running = feed.open_round("s")
    assert running is not None
    assert (running.round, running.asked, running.deadline) == (1, 3, 160.0)


def test_answers_and_reports_of_the_open_round_are_kept() -> None:
    feed = EventFeed()
    feed.apply([planned(100.0), event("task.progress", 101.0, 1, "a", fraction=0.5, metrics={})])
    feed.apply([event("update.accepted", 102.0, 1, "b"), event("update.failed", 103.0, 1, "c")])
    running = feed.open_round("s")
    assert running is not None
    assert (running.answers, running.fractions) == ({"b": "accepted", "c": "failed"}, {"a": 0.5})


def test_a_discarded_update_does_not_replace_an_outcome() -> None:
    feed = EventFeed()
    feed.apply([planned(100.0), event("update.accepted", 101.0, 1, "a"), event("update.discarded", 102.0, 1, "a")])
    running = feed.open_round("s")
    assert running is not None and running.answers == {"a": "accepted"}


def test_answers_of_before_the_attempt_do_not_count() -> None:
    feed = EventFeed()
    feed.apply([planned(100.0), event("update.accepted", 101.0, 1, "a"), planned(200.0, attempt=2)])
    feed.apply([event("update.accepted", 150.0, 1, "b")])
    running = feed.open_round("s")
    assert running is not None and (running.attempt, running.answers) == (2, {})


def test_an_answer_that_overtakes_its_plan_counts() -> None:
    feed = EventFeed()
    feed.apply([event("update.accepted", 101.0, 1, "a"), planned(100.0)])
    running = feed.open_round("s")
    assert running is not None and running.answers == {"a": "accepted"}


def test_an_older_plan_that_arrives_late_does_not_reopen_its_round() -> None:
    feed = EventFeed()
    feed.apply([planned(200.0, 2), planned(100.0, 1)])
    running = feed.open_round("s")
    assert running is not None and running.round == 2


def test_a_commit_closes_its_round_and_no_later_one() -> None:
    feed = EventFeed()
    feed.apply([planned(200.0, 2), event("round.committed", 199.0, 1)])
    assert feed.open_round("s") is not None
    feed.apply([event("round.committed", 260.0, 2)])
    assert feed.open_round("s") is None


def test_the_end_of_a_session_closes_its_round() -> None:
    feed = EventFeed()
    feed.apply([planned(100.0), event("session.stopped", 101.0)])
    assert feed.open_round("s") is None


def test_an_event_that_is_told_twice_changes_nothing() -> None:
    feed = EventFeed()
    assert feed.apply([planned(100.0)])
    before = dict(feed.revisions)
    assert not feed.apply([planned(100.0)])
    assert feed.revisions == before


def test_only_decisions_are_news_for_pages_of_rounds() -> None:
    feed = EventFeed()
    feed.apply([planned(100.0)])
    feed.apply([event("update.accepted", 101.0, 1, "a"), event("model.validated", 102.0, 1, "a")])
    assert feed.revisions == {"any": 2, "rounds": 1}
