"""Events over the web API: recorded ones, and streams."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from support.servers.served import Served
from support.waiting import SECONDS


def _stream(alliance: Served, until: str, headers: dict[str, str] | None = None, **query: str) -> list[dict[str, Any]]:
    """Events of a stream, up to the first of this name."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + SECONDS
    with httpx.stream("GET", f"{alliance.url}/events/stream", params=query, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            assert time.monotonic() < deadline, f"no {until} within {SECONDS:g} s"
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if found[-1]["name"] == until:
                    return found
    raise AssertionError(f"the stream ended without {until}")


def test_a_stream_replays_an_ended_session_whole_and_in_order(alliance: Served, trained: dict[str, Any]) -> None:
    found = _stream(alliance, "session.finished", session="trained", replay="true")
    names = [each["name"] for each in found]
    assert names[0] == "session.queued"
    assert names.count("round.committed") == 3
    assert names.count("update.accepted") == 9
    assert len({each["id"] for each in found}) == len(found)


def test_a_stream_sends_the_events_of_a_session_while_it_runs(alliance: Served, api: httpx.Client) -> None:
    session = api.post("/start", json={"rounds": 30}).json()["session"]
    found = _stream(alliance, "session.finished", session=session, replay="true")
    committed = [each["round"] for each in found if each["name"] == "round.committed"]
    assert committed == list(range(1, 31))


def test_a_stream_resumes_after_the_last_event_without_a_gap(alliance: Served, trained: dict[str, Any]) -> None:
    whole = _stream(alliance, "session.finished", session="trained", replay="true")
    middle = next(number for number, each in enumerate(whole) if each["name"] == "round.committed")
    resumed = _stream(alliance, "session.finished", {"Last-Event-ID": whole[middle]["id"]}, session="trained")
    assert [each["id"] for each in resumed[-(len(whole) - middle - 1) :]] == [
        each["id"] for each in whole[middle + 1 :]
    ]


def test_recorded_events_are_found_by_session_client_and_name(api: httpx.Client, trained: dict[str, Any]) -> None:
    query = {"session": "trained", "client": "client1", "name": "update.accepted"}
    found = api.get("/events", params=query).json()["items"]
    assert [each["round"] for each in found] == [3, 2, 1]
    oldest = api.get("/events", params={**query, "oldest_first": "true", "limit": 1}).json()["items"]
    assert oldest[0]["round"] == 1


@pytest.mark.parametrize(("path", "key"), [("/events?name=No!", "name.0"), ("/events?client=%20", "client")])
def test_a_text_of_another_form_is_422_at_its_key(api: httpx.Client, path: str, key: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (422, key)
