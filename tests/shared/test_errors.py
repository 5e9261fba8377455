"""Reasons are bounded where they are made: they quote what peers have sent, and stand in headers, events and records."""

from __future__ import annotations

import pytest

from fedmq.errors import LONGEST_REASON, ConfigError, ProtocolError, cut


def test_a_reason_that_is_short_stays_as_it_is() -> None:
    assert cut("x" * LONGEST_REASON) == "x" * LONGEST_REASON


def test_a_long_reason_keeps_its_beginning_and_the_remedy_at_its_end() -> None:
    reason = ProtocolError(f"unknown kind {'x' * 100_000}: run versions that know the same messages").reason
    assert len(reason) == LONGEST_REASON
    assert reason.startswith("unknown kind xxx") and reason.endswith("x: run versions that know the same messages")


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_a_reason_holds_nothing_that_a_store_or_a_message_refuses(text: str) -> None:
    reason = ProtocolError(text).reason
    assert reason[0] == "a" and reason[-1] == "b" and "\x00" not in reason
    reason.encode()


def test_the_reason_of_a_wrong_setting_is_whole_as_it_may_list_many() -> None:
    assert ConfigError("x" * 10_000).reason == "x" * 10_000
