"""The changelog and its fragments are in the form that the release needs."""

from __future__ import annotations

import re
import tomllib

import fedmq
from docs.blocks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEADINGS = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_version_is_dated_and_newer_ones_come_first() -> None:
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d\d-\d\d)\)", heading) for heading in HEADINGS]
    versions = [tuple(map(int, match.groups()[:3])) for match in found if match]
    assert len(versions) == len(HEADINGS)
    assert versions == sorted(versions, reverse=True)


def test_the_newest_version_is_the_one_that_the_code_has() -> None:
    assert HEADINGS[0].partition(" ")[0] == fedmq.__version__


def test_a_fragment_has_a_name_and_a_kind_that_the_release_knows() -> None:
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
    for path in (ROOT / "changelog.d").iterdir():
        if path.name not in (".gitignore", "template.md"):
            name, _, kind = path.stem.rpartition(".")
            assert name, path
            assert kind in kinds, path
            assert path.read_text(encoding="utf-8").strip(), path
