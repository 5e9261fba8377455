"""Who may look at the dashboard, and what its pages may load and be loaded into."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest

from dashboard.small_world import small_world
from fedmq.web.access import Access
from fedmq_dashboard.live import Live
from fedmq_dashboard.routes import MOST_STREAMS
from fedmq_dashboard.serve import LARGEST_BODY, DashboardServer
from support.waiting import SECONDS

TOKEN = "a-token-of-the-admin"
PATHS = (
    "/",
    "/clients",
    "/_dash-layout",
    "/_dash-dependencies",
    "/assets/dashboard.js",
    "/export/table.csv",
    "/stream",
)


@contextlib.contextmanager
def served(access: Access | None = None) -> Iterator[httpx.Client]:
    server = DashboardServer(small_world(), Live(), port=0, access=access)
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=SECONDS) as client:
            yield client
    finally:
        server.stop()


def status(client: httpx.Client, path: str, **headers: str) -> int:
    with client.stream("GET", path, headers=headers) as answer:
        return answer.status_code


@pytest.fixture(scope="module")
def local() -> Iterator[httpx.Client]:
    with served() as client:
        yield client


def test_a_page_whose_name_leads_here_by_rebinding_reads_nothing(local: httpx.Client) -> None:
    for path in PATHS:
        assert status(local, path, Host="evil.example") == 421, path
        assert status(local, path, Host="localhost") == 200, path
    assert local.post("/_dash-update-component", json={}, headers={"Host": "evil.example"}).status_code == 421


def test_beyond_this_machine_nothing_but_health_is_shown_without_the_token() -> None:
    with served(Access(TOKEN, is_local=False)) as client:
        for path in PATHS:
            refused = client.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="FedMQ"'), path
            assert "FEDN_ADMIN_TOKEN" in refused.text
            assert status(client, path, Authorization=f"Bearer {TOKEN}") == 200, path
        assert client.post("/_dash-update-component", json={}).status_code == 401
        assert client.get("/", auth=("anybody", TOKEN)).status_code == 200
        assert client.get("/", auth=("anybody", "wrong")).status_code == 401
        assert client.get("/health").json() == {"status": "ok", "trouble": ""}


def test_no_page_can_be_framed_or_run_a_foreign_script(local: httpx.Client) -> None:
    for path in ("/", "/clients", "/health", "/nowhere.js"):
        headers = local.get(path).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "object-src 'none'" in policy
        scripts = next(each for each in policy.split("; ") if each.startswith("script-src"))
        assert "unsafe" not in scripts and "http" not in scripts
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_a_body_that_no_page_sends_is_refused(local: httpx.Client) -> None:
    answer = local.post("/_dash-update-component", content=b"x" * (LARGEST_BODY + 1))
    assert answer.status_code == 413


def test_more_news_streams_than_there_is_room_for_leave_room_for_pages() -> None:
    with served() as client, contextlib.ExitStack() as open_streams:
        address = client.base_url.host, client.base_url.port or 0
        for _ in range(MOST_STREAMS):
            stream = open_streams.enter_context(socket.create_connection(address, SECONDS))
            stream.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert stream.recv(12) == b"HTTP/1.1 200"
        refused = client.get("/stream")
        assert refused.status_code == 503 and f"{MOST_STREAMS} pages follow the news already" in refused.text
        assert client.get("/clients").status_code == 200
