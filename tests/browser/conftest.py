"""A browser, and pages with data of real sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.chromium import Browser, missing
from dashboard.small_world import small_world
from fedmq_dashboard.live import Live
from fedmq_dashboard.serve import DashboardServer
from support.servers.served import Served, served
from support.tiers import require


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    require(missing())
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Wide and light; the console must be clean at the end of each test."""
    chromium.look()
    chromium.faults()
    yield chromium
    assert chromium.faults() == []
    chromium.driver.get("about:blank")


@pytest.fixture(scope="session")
def dashboard() -> Iterator[str]:
    """Of a finished session with a failed and a rejected update."""
    server = DashboardServer(small_world(), Live(), port=0)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(Path(tmp_path_factory.mktemp("alliance"))) as running:
        yield running
