"""PresenceTable: who is present, from signs of life at the times that the caller gives."""

from __future__ import annotations

import pytest

from fedmq.runtime.peers.presence_table import MISSED_PERIODS, PresenceTable

PERIOD = 10.0


@pytest.fixture
def members() -> PresenceTable:
    return PresenceTable(PERIOD)


def test_the_first_sign_of_life_makes_a_member(members: PresenceTable) -> None:
    assert members.note("a", 0.0)
    assert not members.note("a", 1.0)
    assert "a" in members and "b" not in members


def test_a_member_expires_when_three_periods_have_passed_without_a_sign_of_life(members: PresenceTable) -> None:
    members.note("a", 0.0)
    assert members.expire(MISSED_PERIODS * PERIOD) == []
    assert members.expire(MISSED_PERIODS * PERIOD + 0.1) == ["a"]
    assert "a" not in members
    assert members.expire(1_000.0) == []


def test_each_sign_of_life_counts_anew(members: PresenceTable) -> None:
    members.note("a", 0.0)
    members.note("a", 25.0)
    assert members.expire(50.0) == []


def test_members_are_listed_by_name_and_so_are_those_that_expire_together(members: PresenceTable) -> None:
    for name in ("c", "a", "b"):
        members.note(name, 0.0)
    assert (len(members), list(members)) == (3, ["a", "b", "c"])
    members.note("b", 30.0)
    assert members.expire(40.0) == ["a", "c"]
    assert list(members) == ["b"]


def test_nobody_expires_within_two_periods_of_a_start_as_signs_of_life_were_not_received_before(
    members: PresenceTable,
) -> None:
    members.note("a", 0.0)
    members.start(100.0)
    assert members.expire(100.0 + 2 * PERIOD - 0.1) == []
    assert members.expire(100.0 + 2 * PERIOD) == ["a"]


def test_a_removed_member_is_none_and_may_join_again(members: PresenceTable) -> None:
    members.note("a", 0.0)
    assert members.remove("a")
    assert not members.remove("a")
    assert members.note("a", 1.0)
