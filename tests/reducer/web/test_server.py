"""The web server: health, metrics, who may change something, and wrong requests."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fedmq_reducer import metrics
from fedmq_reducer.web.api.server import ApiServer
from support.promtool import check_exposition
from support.servers.served import Served, served

from .alliance import count_sessions


def test_health_names_the_alliance(api: httpx.Client) -> None:
    answer = api.get("/health")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["alliance"]) == ("ok", "sandbox")


def families_of(api: httpx.Client) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(api.get("/metrics").text)}


def test_metrics_are_prometheus_text_that_counts_updates_and_rounds(api: httpx.Client, trained: dict[str, Any]) -> None:
    families = families_of(api)
    updates = {sample.labels["outcome"]: sample.value for sample in families["fedmq_updates"].samples}
    assert updates["accepted"] >= 9
    clients = {sample.labels["state"]: sample.value for sample in families["fedmq_clients"].samples}
    assert clients == {"present": 4, "away": 0}
    buckets = [sample.value for sample in families["fedmq_round_seconds"].samples if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)


def test_metrics_have_the_declared_names_types_and_help_and_no_fault_that_prometheus_finds(
    api: httpx.Client, trained: dict[str, Any]
) -> None:
    served = {(family.name, family.type, family.documentation) for family in families_of(api).values()}
    declared = {(each.name.removesuffix("_total"), each.kind, each.help) for each in metrics.ALLIANCE}
    assert served <= declared
    # Queues are measured every ten seconds.
    assert {name for name, *_ in declared - served} <= {"fedmq_dead_letters"}
    check_exposition(api.get("/metrics").text)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(api: httpx.Client, headers: dict[str, str]) -> None:
    before = count_sessions(api)
    assert api.post("/start", json={}, headers=headers).status_code == 403
    assert count_sessions(api) == before


def test_a_page_of_this_server_may_start(alliance: Served, api: httpx.Client) -> None:
    headers = {"Origin": alliance.url, "Sec-Fetch-Site": "same-origin"}
    assert api.post("/start", json={"rounds": 1}, headers=headers).status_code == 202


def test_a_local_server_answers_to_local_names_only(api: httpx.Client) -> None:
    answer = api.get("/health", headers={"Host": "evil.example:8090"})
    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/start", b'{"rounds":', 422, "the body is not JSON: "),
        ("POST", "/start", b"rounds=3", 422, "the body is not JSON: "),
        ("POST", "/start", b"[]", 422, 'the body must be a JSON object, sent as application/json: {"rounds": 5}'),
        ("POST", "/start?id=a%20b", b"{}", 422, "id: 'a b' is no session's id: that is up to 64 letters"),
        ("POST", "/start", b'{"rounds": 0}', 422, "rounds: must be greater than or equal to 1"),
        ("POST", "/start", b'{"round": 3}', 422, "unknown key 'round': did you mean 'rounds'?"),
        ("POST", "/start", b'{"strategy": {"name": "fedadm"}}', 422, "did you mean 'fedadam'?"),
        (
            "POST",
            "/start",
            b'{"clients_required": 3, "clients_requested": 2}',
            422,
            "clients_requested (2) is below clients_required (3): no round could reach its minimum",
        ),
        ("POST", "/start", b'{"package": "x"}', 422, "package: 'x' is no package's sha256: that is 64 hexadecimal"),
        ("POST", "/start", b'{"seed": "no-such"}', 404, "there is no model 'no-such'"),
        ("POST", "/start?rounds=1", b'{"rounds": 2}', 422, "leave it out of the address"),
        (
            "GET",
            "/start?rounds=0&timeout=soon",
            b"",
            422,
            "the policy can't be used:\n"
            "  rounds: must be greater than or equal to 1 (not 0)\n"
            "  timeout: must be a valid number (not 'soon')",
        ),
        ("POST", "/models?name=../x", b"x", 422, "name: '../x' is no model's name: that is up to 100 letters"),
        ("GET", "/sessions?after=x", b"", 422, "after: 'x' is no `next` of a page"),
        ("GET", "/sessions?state=x", b"", 422, "state: must be 'queued', 'waiting'"),
        ("GET", "/models?session=none", b"", 404, "there is no session 'none'"),
        ("GET", "/models/last?session=none", b"", 404, "there is no session 'none'"),
        ("GET", "/sesions", b"", 404, "GET /sesions: there is no such thing to ask; /docs lists what there is"),
        ("DELETE", "/models", b"", 405, "DELETE /models: there is no such thing to ask"),
    ],
)
def test_a_wrong_request_is_answered_with_what_to_change(
    api: httpx.Client, method: str, path: str, body: bytes, status: int, words: str
) -> None:
    before = count_sessions(api)
    answer = api.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert count_sessions(api) == before


def test_the_document_of_the_api_is_served(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/start", "/sessions/{session}", "/models/{model}/download", "/events/stream", "/health"} <= set(paths)
    assert api.get("/docs").status_code == 200


def test_with_a_token_changes_need_it_and_reading_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_ADMIN_TOKEN", "sesame")
    with served(tmp_path / "state", clients=1) as guarded, httpx.Client(base_url=guarded.url) as api:
        assert api.get("/sessions").status_code == 200
        for answer in (api.get("/start"), api.post("/start", json={}), api.post("/models", content=b"x")):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
            assert "FEDN_ADMIN_TOKEN): none was sent" in answer.json()["error"]
        wrong = api.get("/start", headers={"Authorization": "Bearer wrong"})
        assert (wrong.status_code, "the token sent is another one" in wrong.json()["error"]) == (401, True)
        assert api.get("/blobs/models/none").status_code == 401
        assert api.get("/start?rounds=1", headers={"Authorization": "Bearer sesame"}).status_code == 202
        assert api.get("/start?rounds=1", auth=("anybody", "sesame")).status_code == 202


async def _stream_forever(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"event\n", "more_body": True})
    await asyncio.sleep(3600)


def test_a_server_that_is_stopped_while_somebody_follows_events_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    server = ApiServer(_stream_forever, "127.0.0.1", 0)
    server.start()
    with httpx.stream("GET", server.url) as answer:
        assert next(answer.iter_raw()) == b"event\n"
        server.stop()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert not server._thread.is_alive()
