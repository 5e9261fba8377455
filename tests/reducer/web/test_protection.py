"""What strangers can do to the REST API: requests without a token, large and slow ones, and pages of other sites."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from fedmq import tensors
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import ConfigError, Refused
from fedmq.records.sqlite import SqliteRecords
from fedmq.web.access import Access
from fedmq_reducer.web.api import access as limits
from fedmq_reducer.web.api import server as serving
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.api.server import ApiServer
from fedmq_reducer.web.app import create_app
from fedmq_sdk import Alliance
from support.servers.served import Served
from support.waiting import SECONDS, until

TOKEN = "a-token-of-the-admin"
MB = 1 << 20


@contextlib.contextmanager
def served_alone(folder: Path, access: Access | None = None) -> Iterator[ApiServer]:
    """An API over empty stores. It takes seeds of 2 MB."""
    records = SqliteRecords(folder / "records.db")
    context = ApiContext(
        alliance="a",
        records=records,
        blobs=MemoryBlobs(),
        publish=lambda *_: None,
        feed=EventStream(),
        new_id=lambda: "0123456789abcdef",
        scratch=folder / "scratch",
        access=access or Access(),
        largest_seed=2 * MB,
    )
    server = ApiServer(create_app(context), "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        records.close()


@contextlib.contextmanager
def client_of(folder: Path, access: Access) -> Iterator[httpx.Client]:
    with served_alone(folder, access) as server, httpx.Client(base_url=server.url, timeout=SECONDS) as client:
        yield client


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[ApiServer]:
    with served_alone(tmp_path) as server:
        yield server


@pytest.fixture
def client(alone: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=alone.url, timeout=SECONDS) as client:
        yield client


def routes() -> set[str]:
    app = create_app(
        ApiContext("a", SqliteRecords(":memory:"), MemoryBlobs(), lambda *_: None, EventStream(), lambda: "", Path())
    )
    return {path.replace("{", "").replace("}", "") for path in app.openapi()["paths"]}


# -- who is let in --------------------------------------------------------------------------------------------------


def test_beyond_this_machine_no_route_can_be_read_without_the_token(tmp_path: Path) -> None:
    with (
        served_alone(tmp_path, Access(TOKEN, is_local=False)) as server,
        httpx.Client(base_url=server.url, timeout=SECONDS) as client,
    ):
        for path in {*routes(), "/", "/docs", "/openapi.json", "/page/stream", "/page/static/page.js", "/nowhere"}:
            if path != "/health":
                answer = client.get(path)
                assert answer.status_code == 401, path
                assert ("FEDN_HEALTH_TOKEN" if path == "/metrics" else "FEDN_ADMIN_TOKEN") in answer.json()["error"]
                assert answer.headers["www-authenticate"] == 'Basic realm="FedMQ"'
        assert client.get("/health").status_code == 200
        assert client.get("/sessions", auth=("anybody", TOKEN)).status_code == 200
        assert client.post("/start", json={}, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 202


def test_the_sdk_reads_with_the_token_and_is_told_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDN_ADMIN_TOKEN", raising=False)
    with served_alone(tmp_path, Access(TOKEN, is_local=False)) as server:
        with pytest.raises(Refused, match="FEDN_ADMIN_TOKEN"):
            Alliance(server.url).sessions()
        assert Alliance(server.url, token=TOKEN).sessions() == []
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", "token")
        assert Alliance(server.url).sessions() == []


def test_a_local_port_that_a_container_publishes_answers_to_no_foreign_name(tmp_path: Path) -> None:
    with (
        served_alone(tmp_path, Access(in_container=True)) as server,
        httpx.Client(base_url=server.url, timeout=SECONDS) as client,
    ):
        assert client.get("/sessions", headers={"Host": "evil.example:8090"}).status_code == 421
        assert client.get("/sessions", headers={"Host": "reducer:8090"}).status_code == 200


# -- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
def test_a_seed_above_the_limit_is_refused_and_leaves_nothing(
    client: httpx.Client, announced: bool, tmp_path: Path
) -> None:
    body = b"x" * (3 * MB)
    content = body if announced else iter([body[:MB], body[MB:]])
    answer = client.post("/models", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"] == "the seed has more than 2 MB: FEDN_SEED_LIMIT of the reducer sets the most"
    scratch = tmp_path / "scratch"
    assert not scratch.exists() or not list(scratch.iterdir())


def test_the_sdk_reports_the_limit_of_seeds(alone: ApiServer, tmp_path: Path) -> None:
    seed = tmp_path / "large.safetensors"
    seed.write_bytes(tensors.encode({"w": np.zeros(8 * MB, np.float32)}, {}))
    with pytest.raises(ConfigError, match="more than 2 MB: FEDN_SEED_LIMIT"):
        Alliance(alone.url).upload(seed)


@pytest.mark.parametrize("path", ["/start", "/page/start"])
def test_a_body_that_no_policy_has_is_refused(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=b"[" * (2 * MB))
    assert answer.status_code == 413
    assert answer.json()["error"] == "the body has more than 1024 kB: no policy is that long"


# -- time and connections -------------------------------------------------------------------------------------------


def test_half_open_connections_are_closed_and_others_are_answered(
    alone: ApiServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", alone.port))) for _ in range(200)]
        for each in held:
            each.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        assert client.get("/health").status_code == 200
        for each in held:
            each.settimeout(SECONDS)
            assert _ends(each)


def test_a_head_that_arrives_byte_by_byte_is_not_waited_for(alone: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", alone.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")

        def is_cut() -> bool:
            try:
                connection.sendall(b"G")
            except OSError:
                return True
            return False

        until(is_cut, "the connection is closed")


def test_more_connections_than_there_is_room_for_are_closed_at_once(
    alone: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MOST_OPEN", 5)
    monkeypatch.setattr(serving, "HEAD_SECONDS", 10 * SECONDS)  # so that nothing else closes the last one
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", alone.port), SECONDS)) for _ in range(6)]
        assert _ends(held[-1])


def test_a_body_that_stands_still_is_refused_and_leaves_nothing(
    alone: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENT_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", alone.port), SECONDS) as connection:
        connection.sendall(b"POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    scratch = tmp_path / "scratch"
    until(lambda: not list(scratch.iterdir()), "nothing is left")


def test_a_stream_that_is_read_is_not_ended_by_the_limits(alliance: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(limits, "SILENT_SECONDS", 0.2)
    with httpx.stream("GET", f"{alliance.url}/page/stream", timeout=SECONDS) as answer:
        pieces = answer.iter_bytes()
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            assert next(pieces)


# -- pages ----------------------------------------------------------------------------------------------------------


def test_every_answer_forbids_frames_sniffing_and_referrers(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/health", "/sessions", "/nowhere", "/page/static/page.js"):
        for accept in ("text/html", "application/json"):
            headers = client.get(path, headers={"Accept": accept}).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


def _ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_the_documentation_of_the_api_is_whole_and_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text) == []
    assert "<script" not in answer.text and "style=" not in answer.text
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            assert f"{method.upper()} {path}" in answer.text
            assert all(f"<code>{parameter['name']}</code>" in answer.text for parameter in each.get("parameters", ()))
    assert all(f"<code>{name}</code>" in answer.text for name in document["components"]["schemas"])
