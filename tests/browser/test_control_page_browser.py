"""The control page in a real browser, on a running alliance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from browser.accessibility import FAINT, OVERFLOW, UNNAMED
from browser.chromium import Browser
from fedmq import tensors
from support.servers.served import Served

pytestmark = pytest.mark.browser
SEED = "seed-5d1e84adb228"


def _type(browser: Browser, field: str, text: str) -> None:
    element = browser.find(f'[name="{field}"]')
    element.clear()
    element.send_keys(text)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_readable(browser: Browser, alliance: Served, theme: str, width: int) -> None:
    browser.look(width, theme)
    browser.open(f"{alliance.url}/start", "#start-form")
    browser.script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert browser.script(OVERFLOW) <= 0
    assert browser.script(UNNAMED) == []
    assert browser.script(FAINT) == []


def test_a_session_is_started_from_the_form_and_seen_to_its_end_without_a_reload(
    browser: Browser, alliance: Served
) -> None:
    browser.open(f"{alliance.url}/start", "#start-form")
    browser.script("window.stays = true")
    _type(browser, "name", "from the form")
    _type(browser, "rounds", "3")
    browser.wait(lambda: len(Select(browser.find("#f-seed")).options) > 1)
    Select(browser.find("#f-seed")).select_by_value(SEED)
    browser.find("#go").click()
    browser.wait_for_text("is on its way", "#start")
    browser.wait_for_text("from the form", "#sessions")
    browser.wait(lambda: "finished" in browser.text("#sessions tbody tr"))
    assert browser.script("return window.stays") is True


def test_a_fault_appears_at_its_field_and_what_was_typed_stays(browser: Browser, alliance: Served) -> None:
    browser.open(f"{alliance.url}/start", "#start-form")
    _type(browser, "name", "kept")
    _type(browser, "rounds", "0")
    browser.find("#go").click()
    browser.wait_for_text("greater than or equal to 1", "#e-rounds")
    assert browser.find("#f-rounds").get_attribute("aria-invalid") == "true"
    assert browser.find("#f-name").get_attribute("value") == "kept"
    assert browser.script("return document.activeElement.getAttribute('role')") == "alert"


def test_the_form_is_filled_in_and_sent_by_keyboard_alone(browser: Browser, alliance: Served) -> None:
    browser.open(f"{alliance.url}/start", "#start-form")
    ActionChains(browser.driver).send_keys(Keys.TAB, Keys.ENTER).perform()
    browser.script("document.getElementById('f-name').focus()")
    ActionChains(browser.driver).send_keys("typed", Keys.ENTER).perform()
    browser.wait_for_text("is on its way", "#start")
    browser.wait_for_text("typed", "#sessions")


def test_a_seed_is_uploaded_right_there(browser: Browser, alliance: Served, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(tensors.encode({"coefficients": np.full(7, 2.0), "intercept": np.zeros(1)}, {}))
    browser.open(f"{alliance.url}/start", "#start-form")
    browser.find("#upload").send_keys(str(file))
    browser.wait_for_text("mine.safetensors is seed-", "#uploaded")
    assert str(Select(browser.find("#f-seed")).first_selected_option.get_attribute("value")).startswith("seed-")


def test_a_session_is_stopped_from_the_page(browser: Browser, alliance: Served) -> None:
    browser.open(f"{alliance.url}/start", "#start-form")
    _type(browser, "name", "endless")
    _type(browser, "rounds", "1000000")
    browser.find("#go").click()
    browser.wait(lambda: browser.all("#stop-now"))
    browser.script("document.getElementById('stop-after').click()")
    browser.wait(lambda: "stopped" in browser.text("#sessions tbody tr"))
    assert "endless" in browser.text("#sessions tbody tr")
