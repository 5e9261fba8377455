"""Watermarks: which message of a session is late."""

from __future__ import annotations

from fedmq.runtime.watermarks import MOST_SESSIONS, Watermarks


def test_positions_of_a_session_may_grow_and_stay_but_not_fall() -> None:
    marks = Watermarks()
    assert not marks.is_superseded("s", (1, 1))
    assert not marks.is_superseded("s", (2, 1))
    assert not marks.is_superseded("s", (2, 1))
    assert marks.is_superseded("s", (1, 1))


def test_a_late_position_leaves_the_newest_as_it_is() -> None:
    marks = Watermarks()
    marks.is_superseded("s", (3,))
    marks.is_superseded("s", (1,))
    assert marks.is_superseded("s", (2,))


def test_sessions_do_not_know_of_each_other() -> None:
    marks = Watermarks()
    marks.is_superseded("s", (3,))
    marks.end("t")
    assert not marks.is_superseded("u", (1,))
    assert not marks.is_superseded("s", (3,))


def test_without_a_position_a_message_is_late_only_after_the_end_of_its_session() -> None:
    marks = Watermarks()
    marks.is_superseded("s", (3, 2))
    assert not marks.is_superseded("s")
    assert marks.is_superseded("s", (3, 1))
    marks.end("s")
    assert marks.is_superseded("s")


def test_after_the_end_of_a_session_everything_of_it_is_late() -> None:
    marks = Watermarks()
    marks.end("s")
    marks.end("s")
    assert marks.is_superseded("s", (2**62,))


def test_the_sessions_seen_last_are_remembered() -> None:
    marks = Watermarks()
    marks.end("old")
    marks.is_superseded("busy", (5,))
    for number in range(MOST_SESSIONS - 1):
        marks.is_superseded("busy", (6,))
        marks.end(f"s{number}")
    assert not marks.is_superseded("old", (1,)), "it was the first to be forgotten"
    assert marks.is_superseded("busy", (5,))
