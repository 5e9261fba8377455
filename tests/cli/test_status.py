"""`fedmq status`, and a session that is followed, while servers of the alliance do not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from typer.testing import CliRunner

from fedmq.errors import NotFound
from fedmq_cli.app import app
from fedmq_cli.commands import sessions
from fedmq_sdk import Alliance, SessionHandle
from support.servers.answering import Answer, answering

BLOCKED = {"process": "reducer", "store": "broker", "text": "the broker accepts no messages (low on disk), since 12:00"}
PAGES: dict[str, Any] = {
    "/health": {"alliance": "a", "stalls": [BLOCKED]},
    "/clients": {"items": [], "next": None},
    "/combiners": {"items": [{"combiner": "c", "state": "away"}], "next": None},
    "/sessions": {"items": [], "next": None},
}


@pytest.fixture
def hung() -> Iterator[Event]:
    """Of requests that are never answered. Set at the end, so that the server can end."""
    found = Event()
    yield found
    found.set()


def test_a_store_that_begins_to_hang_is_named_and_not_the_reducer(hung: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "STATUS_SECONDS", 0.5)
    asked: list[str] = []
    reason = b'{"error": "the records can\'t be read, so nothing is decided: MongoDB at db does not answer"}'

    def answer(_: str, path: str) -> Answer:
        asked.append(path)
        if len(asked) == 1:
            hung.wait()
        return Answer(503, reason)

    with answering(answer) as port:
        done = CliRunner().invoke(app, ["status", "--url", f"http://127.0.0.1:{port}"])
        hung.set()
    assert done.exit_code == 2
    assert "MongoDB at db does not answer" in done.output


def test_presence_is_not_known_while_the_broker_stalls() -> None:
    with answering(lambda _, path: Answer(200, json.dumps(PAGES[path]).encode())) as port:
        done = CliRunner().invoke(app, ["status", "--url", f"http://127.0.0.1:{port}"])
    lines = done.output.splitlines()
    assert "0 of 1 combiners" in lines[0]
    assert lines[1:3] == [
        "who is present is not known: no message arrives while the broker stalls",
        "reducer waits: the broker accepts no messages (low on disk), since 12:00",
    ]


def test_all_events_are_proposed_while_a_server_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of one session hold no stall."""
    running = {"session": "s", "state": "running", "waiting": "", "rounds_committed": 0, "policy": {"rounds": 1}}
    monkeypatch.setitem(PAGES, "/sessions", {"items": [{**running, "ended_at": None}], "next": None})
    with answering(lambda _, path: Answer(200, json.dumps(PAGES[path.partition("?")[0]]).encode())) as port:
        done = CliRunner().invoke(app, ["status", "--url", f"http://127.0.0.1:{port}"])
    assert "next: fedmq events --follow --url" in done.output


def test_a_stall_for_which_a_session_waits_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = {
        "session": "s",
        "state": "waiting",
        "waiting": f"2 clients; reducer: {BLOCKED['text']}",
        "rounds_committed": 0,
    }
    row = {**waiting, "policy": {"rounds": 1}, "ended_at": None}
    monkeypatch.setitem(PAGES, "/sessions", {"items": [row], "next": None})
    with answering(lambda _, path: Answer(200, json.dumps(PAGES[path.partition("?")[0]]).encode())) as port:
        done = CliRunner().invoke(app, ["status", "--url", f"http://127.0.0.1:{port}"])
    assert done.output.count(BLOCKED["text"]) == 1
    assert "session s: waiting, 2 clients, 0 of 1 rounds" in done.output


def test_a_session_is_followed_although_the_records_fail_right_after_its_start() -> None:
    record = json.dumps({"session": "one", "state": "finished", "policy": {"rounds": 1}}).encode()
    answers = [Answer(503, b'{"error": "MongoDB failed"}'), Answer(404, b'{"error": "no session one"}')]
    with answering(lambda *_: answers.pop(0) if answers else Answer(200, record)) as port:
        session = SessionHandle(Alliance(f"http://127.0.0.1:{port}", patience=0.0), "one")
        assert session.refresh()["state"] == "finished"
    assert not answers


def test_a_reducer_of_the_release_before_has_no_causes() -> None:
    """`fedmq session show` of this release ended with "not found" there."""

    def answer(_: str, path: str) -> Answer:
        is_session = path == "/sessions/one"
        return Answer(200, b'{"session": "one"}') if is_session else Answer(404, b'{"error": "there is no such page"}')

    with answering(answer) as port:
        session = SessionHandle(Alliance(f"http://127.0.0.1:{port}", patience=0.0), "one")
        assert session.not_accepted() == session.without_metrics() == {"asked": 0, "reasons": []}
        with pytest.raises(NotFound):
            SessionHandle(Alliance(f"http://127.0.0.1:{port}", patience=0.0), "two").not_accepted()
