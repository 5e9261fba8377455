"""The REST API shows what the alliance waits for, and answers at once while the records hang."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.stalls import Stalls
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.app import create_app
from fedmq_schemas import records as tables


class Api:
    """An API whose process and combiners may have stalls. Time stands still at `now`."""

    def __init__(self, folder: Any, records: SqliteRecords | None = None) -> None:
        self.now = 1000.0
        self.stalls = Stalls(lambda: self.now)
        self.records = records or SqliteRecords(":memory:")
        context = ApiContext(
            alliance="a",
            records=self.records,
            blobs=MemoryBlobs(),
            publish=lambda body, message_id: None,
            feed=EventStream(),
            new_id=lambda: "1",
            scratch=folder,
            stalls=self.stalls,
        )
        self._app = create_app(context)

    def stall(self, store: str, reason: str, effect: str = "") -> None:
        self.stalls.note(effect or "check", store, reason, effect)
        self.now += 5.0

    def get(self, path: str) -> tuple[int, Any]:
        answer = asyncio.run(self.answer(path, "application/json"))
        return answer.status_code, answer.json()

    def text(self, path: str) -> str:
        return asyncio.run(self.answer(path, "text/plain")).text

    async def answer(self, path: str, accept: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers={"Accept": accept})


@pytest.fixture
def api(tmp_path: Any) -> Api:
    found = Api(tmp_path)
    for session, state, waiting in (("s1", "running", ""), ("s2", "queued", ""), ("s3", "waiting", "for clients")):
        found.records.put(
            tables.SESSIONS,
            session,
            {"session": session, "state": state, "waiting": waiting, "seed": None, "position": 1},
        )
    return found


def test_stalls_of_the_reducer_and_of_combiners_are_what_open_sessions_wait_for(api: Api) -> None:
    full = {"store": "blob_store", "reason": "the S3 server is full", "effect": "Close", "since": 60.0}
    api.records.put(tables.COMBINERS, "k1", {"combiner": "k1", "state": "present", "stalls": [full]})
    api.records.put(tables.COMBINERS, "k2", {"combiner": "k2", "state": "away", "stalls": [full]})
    api.stall("broker", "the broker accepts no messages (low on disk)")
    broker = "the broker accepts no messages (low on disk), since 00:16:40 UTC"
    store = "the S3 server is full, since 00:01:00 UTC"
    code, health = api.get("/health")
    assert code == 200
    assert [(stall["process"], stall["text"]) for stall in health["stalls"]] == [
        ("reducer", broker),
        ("combiner k1", store),
    ]
    waiting = {each["session"]: each["waiting"] for each in api.get("/sessions")[1]["items"]}
    stalled = f"reducer: {broker}; combiner k1: {store}"
    assert waiting == {"s1": stalled, "s2": "", "s3": f"for clients; {stalled}"}
    assert api.get("/sessions/s1")[1]["waiting"] == stalled


def test_a_reducer_that_stands_by_shows_the_stalls_of_the_one_that_decides(api: Api) -> None:
    full = {"store": "blob_store", "reason": "the S3 server is full", "effect": "Aggregate", "since": 60.0}
    api.records.put(tables.SYSTEM, "stalls", {"what": "stalls", "at": 65.0, "stalls": [full]})
    shown = [("reducer", "the S3 server is full, since 00:01:00 UTC")]
    assert [(each["process"], each["text"]) for each in api.get("/health")[1]["stalls"]] == shown
    api.stall("blob_store", "the S3 server does not answer")
    [stall] = api.get("/health")[1]["stalls"]
    assert stall["reason"] == "the S3 server does not answer"


def test_records_that_refuse_writes_can_still_be_read(api: Api) -> None:
    api.stall("records", "MongoDB at m refused with code 14031", effect="RecordEvents")
    assert api.get("/sessions/s1")[0] == 200
    assert api.get("/health")[1]["stalls"][0]["text"] == "MongoDB at m refused with code 14031, since 00:16:40 UTC"


def test_while_the_records_hang_each_answer_says_so_and_reads_nothing(api: Api) -> None:
    api.stall("records", "MongoDB at m does not answer")
    api.records.close()  # a read would fail in another way
    words = "the records can't be read, so nothing is decided: MongoDB at m does not answer, since 00:16:40 UTC"
    for path in ("/health", "/sessions", "/sessions/s1", "/clients", "/metrics"):
        assert api.get(path) == (503, {"error": words}), path
    page = asyncio.run(api.answer("/", "text/html"))
    assert page.status_code == 200
    assert "The record store can't be reached now" in page.text


def recorded(api: Api, name: str, at: float, **data: Any) -> None:
    event = {"name": name, "at": at, "session": None, "data": {"process": "reducer r1", "store": "records", **data}}
    api.records.put(tables.EVENTS, f"{name}-{at}", event)


@pytest.fixture
def failed(api: Api) -> Api:
    """Has a session that ran from second 100 to second 200, and failed."""
    ended = {"session": "s4", "state": "failed", "waiting": "", "seed": None, "position": 1}
    api.records.put(tables.SESSIONS, "s4", ended | {"started_at": 100.0, "ended_at": 200.0})
    return api


def test_a_failed_session_names_the_servers_that_did_not_answer_while_it_ran(failed: Api) -> None:
    for reason, since, seconds in (("before", 50.0, 20.0), ("short", 120.0, 5.0), ("long", 190.0, 30.0)):
        recorded(failed, "stall.began", since + 5.0, reason=reason, since=since)
        recorded(failed, "stall.ended", since + seconds, reason=reason, seconds=seconds)
    recorded(failed, "stall.began", 305.0, reason="after", since=300.0)
    assert failed.get("/sessions/s4")[1]["stalls"] == [
        "reducer r1: long, 00:03:10 to 00:03:40 UTC",
        "reducer r1: short, 00:02:00 to 00:02:05 UTC",
    ]


def test_a_stall_that_has_not_ended_is_named_too(failed: Api) -> None:
    recorded(failed, "stall.began", 125.0, reason="MongoDB at m does not answer", since=120.0)
    assert failed.get("/sessions/s4")[1]["stalls"] == ["reducer r1: MongoDB at m does not answer, since 00:02:00 UTC"]


def test_a_session_that_did_not_fail_names_none(api: Api) -> None:
    recorded(api, "stall.began", 125.0, reason="MongoDB at m does not answer", since=120.0)
    assert "stalls" not in api.get("/sessions/s1")[1]
