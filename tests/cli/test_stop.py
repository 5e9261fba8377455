"""`fedmq stop` without a name ends the session that runs, never a queued one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from fedmq_sdk import Alliance, SessionHandle
from support.servers.served import Served, served
from support.waiting import until


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance")) as running:
        yield running


def fedmq(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=given)


def test_the_session_that_runs_is_stopped_and_not_the_one_queued_behind_it(alliance: Served) -> None:
    for session in ("runs", "queued"):
        assert fedmq("start", "--id", session, "--rounds", "100000", "--url", alliance.url).exit_code == 0

    def state(session: str) -> str:
        return str(Alliance(alliance.url).session(session).state)

    until(lambda: (state("runs"), state("queued")) == ("running", "queued"), "one runs, and one is queued")
    for words in (("session", "show"), ("session", "show", "last")):
        assert fedmq(*words, "--url", alliance.url).stdout.startswith("session runs: ")
    why = [fedmq("clients", "--why", each, "--json", "--url", alliance.url).stdout for each in ("last", "queued")]
    assert ["the session is queued" in each for each in why] == [False, True]
    assert "session runs ends now" in fedmq("stop", "--url", alliance.url).stdout
    until(lambda: (state("runs"), state("queued")) == ("stopped", "running"), "the next one runs")
    assert "session queued ends now" in fedmq("stop", "--url", alliance.url).stdout
    until(lambda: state("queued") == "stopped", "nothing runs")
    nothing = fedmq("stop", "--url", alliance.url)
    assert nothing.exit_code == 2
    assert "no session runs: `fedmq sessions` lists those that have ended" in nothing.stderr


class Listed:
    """An alliance that lists sessions by state, and notes which one is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, by_state: Mapping[str, list[str]]) -> None:
        self.stopped: list[str] = []

        def sessions(_: Alliance, state: str | None = None) -> list[dict[str, Any]]:
            return [{"session": session} for session in by_state.get(state or "", [])]

        monkeypatch.setattr(Alliance, "sessions", sessions)

        def handle(alliance: Alliance, session: str) -> SessionHandle:
            return SessionHandle(alliance, session)

        monkeypatch.setattr(Alliance, "session", handle)
        monkeypatch.setattr(SessionHandle, "stop", lambda session, after_round: self.stopped.append(session.id))


def test_of_two_that_run_none_is_stopped_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Listed(monkeypatch, {"running": ["b"], "validating": ["a"]})
    refused = fedmq("stop")
    assert refused.exit_code == 2
    assert "these run: b, a: name one, as in `fedmq stop a`" in refused.stderr
    assert listed.stopped == []
    assert fedmq("stop", "a").exit_code == 0
    assert listed.stopped == ["a"]


def test_of_two_that_run_the_one_is_stopped_that_is_chosen_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Listed(monkeypatch, {"running": ["b"], "validating": ["a"]})
    monkeypatch.setattr("fedmq_cli.commands.sessions.is_terminal", lambda: True)
    assert fedmq("stop", given="b\n").exit_code == 0
    assert listed.stopped == ["b"]


def test_a_queued_session_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Listed(monkeypatch, {"queued": ["later"]})
    refused = fedmq("stop")
    assert refused.exit_code == 2
    assert "no session runs, and queued are later: name one, as in `fedmq stop later`" in refused.stderr
    assert listed.stopped == []
    assert fedmq("stop", "later").exit_code == 0
