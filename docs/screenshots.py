"""Makes the pictures of the README: three pages of the dashboard, in docs/images.

    python docs/screenshots.py [--state-dir DIR]

Without a state directory it shows generated records of 24 clients and 40 rounds. Needs Chromium and its driver
(`apt-get install chromium chromium-driver`) and the extras `dashboard` and `dev`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from fedmq_dashboard.live import Live
from fedmq_dashboard.process import open_state_dir
from fedmq_dashboard.serve import DashboardServer

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
PICTURES = (("live", "/", "light"), ("clients", "/clients", "dark"), ("timeline", "/timeline", "light"))
WIDTH, HEIGHT = 1280, 1000
_DRAWN = "return [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"


def take(url: str, search: str) -> None:
    """One picture a page, of what is seen without scrolling."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser.chromium import Browser, missing

    reason = missing()
    if reason is not None:
        sys.exit(reason)
    IMAGES.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        for name, path, theme in PICTURES:
            browser.look(WIDTH, theme, HEIGHT)
            browser.open(url + path + search)
            browser.wait(lambda: browser.script(_DRAWN))
            browser.driver.save_screenshot(str(IMAGES / f"{name}.png"))
            print(IMAGES / f"{name}.png")
    finally:
        browser.close()


def generate(folder: Path) -> Path:
    """Writes the records of a session of 24 clients, and returns their folder."""
    generator = ROOT / "benchmarks" / "generate_records.py"
    arguments = ["--clients", "24", "--rounds", "40", "--combiners", "3"]
    subprocess.run([sys.executable, generator, folder, *arguments], check=True, stdout=subprocess.DEVNULL)
    return folder


def main() -> None:
    """Takes the screenshots that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        records = open_state_dir(options.state_dir or generate(Path(scratch)))
        server = DashboardServer(records, Live(), port=0, alliance="fedmq")
        server.start()
        try:
            take(server.url, "" if options.state_dir else "?session=s-long")
        finally:
            server.stop()
            records.close()


if __name__ == "__main__":
    main()
