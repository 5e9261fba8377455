"""The dashboard in a real browser."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from browser.accessibility import FAINT, OVERFLOW, UNNAMED
from browser.chromium import Browser
from dashboard.small_world import FAILED_ROUND, FAILING, TRAINER, train_into
from fedmq.records.sqlite import SqliteRecords
from fedmq_dashboard.app import PAGES
from fedmq_dashboard.live import Live
from fedmq_dashboard.observer import Tail
from fedmq_dashboard.serve import DashboardServer
from support.packages import write_package

pytestmark = pytest.mark.browser
PATHS = [page.path for page in PAGES]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_is_readable(browser: Browser, dashboard: str, path: str, theme: str, width: int) -> None:
    browser.look(width, theme)
    browser.open(f"{dashboard}{path}")
    browser.wait(lambda: len(browser.all(".js-plotly-plot .main-svg")) >= len(browser.all(".plot")))
    assert browser.script(OVERFLOW) <= 0
    assert browser.script(UNNAMED) == []
    assert browser.script(FAINT) == []


def test_pages_follow_each_other_without_a_reload(browser: Browser, dashboard: str) -> None:
    browser.open(dashboard)
    browser.script("window.stays = true")
    for title in ("Table", "Clients", "System", "Live"):
        next(link for link in browser.all("#nav a") if link.text.startswith(title)).click()
        browser.wait(lambda title=title: browser.text("#nav .here").startswith(title))  # type: ignore[misc]
    assert browser.script("return window.stays") is True


def test_a_click_on_a_failed_task_shows_its_traceback(browser: Browser, dashboard: str) -> None:
    browser.open(f"{dashboard}/clients?order=name")
    plot = browser.find("#body .js-plotly-plot .nsewdrag")
    browser.script("arguments[0].scrollIntoView({block: 'center'})", plot)
    size = plot.size
    row, column = int(FAILING.removeprefix("client")) - 1, FAILED_ROUND - 1
    x = (column + 0.5) * size["width"] / 4 - size["width"] / 2
    y = (row + 0.5) * size["height"] / 5 - size["height"] / 2
    ActionChains(browser.driver).move_to_element_with_offset(plot, int(x), int(y)).pause(0.3).click().perform()
    browser.wait_for_text("RuntimeError: the scanner is off <b>today</b>", "#client")
    assert f"{FAILING}, round {FAILED_ROUND}" in browser.text("#client")
    assert browser.all("#client .traceback b") == []


def test_a_traceback_is_reached_by_keyboard_alone(browser: Browser, dashboard: str) -> None:
    browser.open(f"{dashboard}/clients")
    link = next(each for each in browser.all("#everybody a") if "scanner" in each.text)
    browser.script("arguments[0].focus()", link)
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    browser.wait_for_text("RuntimeError", "#client")


def test_focus_can_be_seen(browser: Browser, dashboard: str) -> None:
    browser.open(dashboard)
    ActionChains(browser.driver).send_keys(Keys.TAB).perform()
    seen = browser.script("const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]")
    assert seen == ["solid", "2px"]
    assert browser.script("return document.activeElement.className") == "skip"


def test_a_choice_changes_the_address_and_the_page(browser: Browser, dashboard: str) -> None:
    browser.open(dashboard)
    browser.find("#controls .control:nth-child(2) button").click()
    option = browser.wait(
        lambda: next((e for e in browser.all("[role=option], .dash-dropdown-option") if e.text == "loss"), None)
    )
    option.click()
    browser.wait_for_text("loss by round")
    assert "metric=loss" in browser.driver.current_url
    browser.driver.back()
    browser.wait_for_text("accuracy by round")


def test_a_click_on_a_column_sorts_by_it(browser: Browser, dashboard: str) -> None:
    browser.open(f"{dashboard}/table")
    next(link for link in browser.all("#means th a") if link.text.startswith("loss")).click()
    browser.wait(lambda: browser.all("#means th[aria-sort=descending]"))
    losses = [float(cell.text) for cell in browser.all("#means tbody tr td:nth-child(5)")]
    assert losses == sorted(losses, reverse=True)


def test_light_and_dark_can_be_toggled_and_stay(browser: Browser, dashboard: str) -> None:
    background = "return getComputedStyle(document.documentElement).backgroundColor"
    browser.open(dashboard)
    light = browser.script(background)
    browser.find("#theme").click()
    dark = browser.script(background)
    browser.open(f"{dashboard}/models")
    assert light != dark == browser.script(background)
    browser.find("#theme").click()
    assert browser.script(background) == light
    browser.script("localStorage.clear()")


def test_a_session_is_shown_as_it_goes_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    state = tmp_path / "state"
    records, live = SqliteRecords(state / "records.db"), Live()
    tail, server = Tail(records, live), DashboardServer(records, live, port=0)
    tail.start()
    server.start()
    try:
        browser.open(server.url)
        browser.wait_for_text("There is no session yet")
        browser.script("window.stays = true")
        training = threading.Thread(target=train_into, args=(state, write_package(tmp_path / "package", TRAINER)))
        training.start()
        browser.wait_for_text("4 of 4 rounds", "#progress")
        browser.wait_for_text("session.finished", "#events")
        training.join(30)
        assert browser.script("return window.stays") is True
    finally:
        browser.driver.get("about:blank")
        server.stop()
        tail.stop()
        records.close()
