"""Debian's Chromium, driven by Selenium; usable outside of pytest too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 30.0


def missing() -> str | None:
    """Why no browser can be driven here, or None."""
    for command in ("chromium", "chromedriver"):
        if shutil.which(command) is None:
            return f"{command} is not installed: apt-get install chromium chromium-driver"
    return None


class Browser:
    """One window. `theme` light or dark is what the viewer's system says."""

    def __init__(self) -> None:
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Service(shutil.which("chromedriver"), log_output=os.devnull)
        self.driver = Chrome(options=options, service=driver)

    def close(self) -> None:
        self.driver.quit()

    def look(self, width: int = 1280, theme: str = "light", height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str, ready: str = "#body .card") -> None:
        """Returns when an element that fits `ready` is there."""
        self.driver.get(url)
        self.find(ready)

    def find(self, selector: str) -> WebElement:
        """The first element that fits; waits for it."""
        found: WebElement = self.wait(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None))
        return found

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def text(self, selector: str = "body") -> str:
        """What is there now."""
        return str(self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def wait(self, condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """What the condition gives as soon as that is true."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

    def wait_for_text(self, words: str, selector: str = "body") -> None:
        self.wait(lambda: words in self.text(selector))

    def faults(self) -> list[str]:
        """Errors and warnings in the console since the last call."""
        entries = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
