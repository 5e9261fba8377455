"""`fedmq session show` and `fedmq start --follow` name the servers that did not answer while a failed session ran."""

from __future__ import annotations

import pytest

from fedmq_cli.session_tables.stalls import say_stalls

STALL = "reducer r1: MongoDB at m does not answer, 14:05:31 to 14:06:02 UTC"


def test_each_stall_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_stalls({"stalls": [STALL]})
    assert capsys.readouterr().out == f"while it ran, {STALL}\n"


def test_three_are_shown_and_the_others_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    say_stalls({"stalls": [STALL] * 5}, err=True)
    assert capsys.readouterr().err.splitlines()[2:] == [f"while it ran, {STALL}", "and 2 more: fedmq events"]


def test_a_session_without_stalls_and_one_of_an_earlier_reducer_have_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_stalls({"stalls": []})
    say_stalls({})
    assert capsys.readouterr().out == ""
