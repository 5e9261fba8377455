"""The dashboard as a process of its own, on real servers: it sees a session live, and is missed by nobody."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dashboard.test_server import update
from support.promtool import check_exposition
from support.servers.ports import free_ports
from support.waiting import SECONDS
from system.deployment import Deployment
from system.node import COMMAND

pytestmark = pytest.mark.system


@pytest.fixture
def dashboard(alliance: Deployment, tmp_path: Path) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """Its address, that of its metrics, and its process.

    In place of the standby: the record store that stands in for MongoDB takes few connections at a time.
    """
    active = alliance.active_reducer()
    for node in alliance.nodes.values():
        if node.role == "reducer" and node is not active:
            node.kill()
    port, health_port = free_ports(2)
    ports = {"FEDN_DASHBOARD_PORT": str(port), "FEDN_HEALTH_PORT": str(health_port)}
    with (tmp_path / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "run", "dashboard"],
            env=alliance.environment("dashboard-1") | ports,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        alliance.until(answers, "the dashboard answers")
        yield url, f"http://127.0.0.1:{health_port}/metrics", process
    finally:
        process.kill()
        process.wait()


def test_it_tells_a_session_as_it_goes_and_ends_when_asked(
    alliance: Deployment, dashboard: tuple[str, str, subprocess.Popen[bytes]]
) -> None:
    url, metrics_url, process = dashboard
    with httpx.stream("GET", f"{url}/stream", timeout=SECONDS) as answer:
        lines = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        first = next(lines)
        alliance.start_session("watched", seed="seed-system", rounds=2, clients_required=6, timeout=60)
        assert any(news["rounds"] != first["rounds"] for news in lines)
    assert alliance.await_end("watched")["state"] == "finished"
    alliance.until(lambda: "2 of 2 rounds" in update(url, "/", "?session=watched").text, "the page shows the end")
    assert "combiner-1" in update(url, "/system").text
    text = httpx.get(metrics_url).text
    check_exposition(text)
    assert "\nfedmq_broker_connected 1\n" in text

    def ready() -> tuple[int, str]:
        answer = httpx.get(metrics_url.replace("/metrics", "/ready"), timeout=SECONDS)
        return answer.status_code, answer.text

    assert ready()[0] == 200
    with alliance.servers.mongo.halted():
        alliance.until(lambda: ready()[0] == 503, "the dashboard is not ready without its records")
        assert "MongoDB at 127.0.0.1 does not answer" in ready()[1]
    alliance.until(lambda: ready()[0] == 200, "it is ready again")
    process.terminate()
    assert process.wait(12) == 0
