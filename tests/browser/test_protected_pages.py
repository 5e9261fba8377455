"""Pages under their content security policy in a real browser. The console must be clean, so nothing was blocked."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser.accessibility import FAINT, OVERFLOW, UNNAMED
from browser.chromium import Browser
from dashboard.small_world import small_world
from fedmq.web.access import Access
from fedmq_dashboard.live import Live
from fedmq_dashboard.serve import DashboardServer
from reducer.web.test_protection import served_alone

pytestmark = pytest.mark.browser
TOKEN = "a-token-of-the-admin"
FETCHED = "return performance.getEntriesByType('resource').map((each) => new URL(each.name).host)"


@pytest.mark.parametrize("width", [1280, 400])
def test_the_documentation_of_the_api_is_readable_and_fetches_nothing_from_elsewhere(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    with served_alone(tmp_path) as server:
        browser.look(width)
        browser.open(f"{server.url}/docs", "#api")
        browser.script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        assert browser.script(OVERFLOW) <= 0
        assert browser.script(UNNAMED) == []
        assert browser.script(FAINT) == []
        assert set(browser.script(FETCHED)) == {urlsplit(server.url).netloc}
        browser.driver.get("about:blank")


def test_a_browser_sees_the_dashboard_with_the_token_as_its_password(browser: Browser) -> None:
    server = DashboardServer(small_world(), Live(), port=0, access=Access(TOKEN, is_local=False))
    server.start()
    try:
        # As what is typed into the browser's prompt, which it sends from then on; pages refuse it in their own address.
        browser.driver.get(server.url.replace("://", f"://anybody:{TOKEN}@") + "/export/table.json")
        browser.open(server.url)
        browser.wait(lambda: browser.all(".js-plotly-plot .main-svg"))
        next(link for link in browser.all("#nav a") if link.text.startswith("Clients")).click()
        browser.wait_for_text("Participation")
        assert set(browser.script(FETCHED)) == {urlsplit(server.url).netloc}
    finally:
        browser.driver.get("about:blank")
        server.stop()


def test_a_script_that_a_page_did_not_come_with_is_not_run(browser: Browser, dashboard: str) -> None:
    browser.open(dashboard)
    browser.script(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        "document.body.append(script);"
    )
    assert browser.script("return window.ran ?? false") is False
    assert any("Content Security Policy" in fault for fault in browser.faults())
