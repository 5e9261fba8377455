"""The documentation site builds without a warning, and its pages load nothing from the network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.blocks import ROOT, pages
from support.tiers import require

ASSET = re.compile(r"<(?:script|img|iframe|link(?! rel=\"canonical\"))[^>]*(?:src|href)=\"?((?:https?:)?//[^\" >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(None if importlib.util.find_spec("material") else "mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout
    return folder


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 40
    assert {page.name: ASSET.findall(page.read_text(encoding="utf-8")) for page in found} == {
        page.name: [] for page in found
    }
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\((?:https?:)?//|@import", styles)


def test_a_page_with_a_diagram_brings_the_library_that_draws_it(site: Path) -> None:
    page = (site / "architecture.html").read_text(encoding="utf-8")
    assert 'class="mermaid"' in page
    (source,) = re.findall(r'src="([^"]*mermaid[^"]*)"', page)
    assert (site / source).stat().st_size > 1_000_000


def test_every_document_is_in_the_site(site: Path) -> None:
    for page in pages():
        path = page.removeprefix("docs/") if page.startswith("docs/") else f"repository/{page}"
        html = re.sub(r"README\.md$", "index.html", path)
        assert (site / re.sub(r"\.md$", ".html", html)).is_file(), page
