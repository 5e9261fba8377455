"""SECURITY.md promises only what tests hold."""

from __future__ import annotations

import re

from docs.blocks import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.partition("\n## What")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| who")
]


def test_each_row_names_tests_that_exist_or_that_there_is_none() -> None:
    assert len(ROWS) > 8
    for who, _, cannot, held in ROWS:
        named = re.findall(r"`(tests/[^`]+)`", held)
        assert cannot and (named or held == "no test"), who
        assert all((ROOT / path).exists() for path in named), who


def test_every_test_that_the_text_names_exists() -> None:
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[^`]+)`", TEXT))
