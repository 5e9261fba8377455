"""The reference pages say what the code does."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from docs.blocks import ROOT

PROGRAM = ROOT / "docs" / "site" / "reference.py"
_spec = importlib.util.spec_from_file_location("reference", PROGRAM)
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_a_page_is_what_the_program_writes(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == reference.MADE + reference.PAGES[name](), "run python docs/site/reference.py"


def test_every_page_of_the_folder_is_written_by_the_program() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").glob("*.md")} == set(reference.PAGES)


def test_the_files_of_a_run_are_those_that_the_page_lists(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "fedmq")]
    options = ["--package", "examples/numpy_regression/client", "--rounds", "2", "--state-dir", str(tmp_path)]
    subprocess.run([*command, "sandbox", *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    known = {name: _pattern(name) for name, _ in reference.RUN_FILES}
    assert {file for file in files if not any(re.match(pattern, file) for pattern in known.values())} == set()
    # Not every run has them: they belong to an open round, to a strategy or clients with a state, or to a part of a model.
    absent = {name for name, pattern in known.items() if not any(re.match(pattern, file) for file in files)}
    folders = {name for name in absent if any(re.match(_pattern(name), each) for each in _folders(tmp_path))}
    assert absent - folders == {
        "blobs/updates/SESSION/ROUND/optimizer-*",
        "blobs/updates/SESSION/ROUND/checkpoint-*",
        "blobs/updates/MODEL/base-*",
        "MODEL.safetensors",
        "clients/CLIENT/output.log",
        "clients/CLIENT/personal/SESSION.ROUND.safetensors",
        "clients/CLIENT/personal/SESSION.ROUND.json",
        "clients/CLIENT/personal/HASH.safetensors",
    }


def test_the_page_lists_the_files_of_a_model_of_which_a_part_is_shared(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "fedmq"), "sandbox", "--package", "examples/numpy_regression/client"]
    options = ["--rounds", "1", "--clients", "1", "--workers", "0", "--set", 'tensors.share=["coefficients"]']
    subprocess.run([*command, *options, "--state-dir", tmp_path], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for row, pattern, tensors in (
        ("MODEL.safetensors", "*.safetensors", {"coefficients", "intercept"}),
        ("blobs/models/MODEL", "blobs/models/s*-0001-*", {"coefficients"}),
        ("blobs/updates/MODEL/base-*", "blobs/updates/*/base-*", {"intercept"}),
    ):
        [path] = tmp_path.glob(pattern)
        assert set(load_file(path)) == tensors
        assert f"| `{row}` |" in reference.files_page()


def _folders(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()]


def _pattern(name: str) -> str:
    """Returns a row's name as a pattern: a word in capitals is any name, `*` any text."""
    parts = (re.escape(part).replace(r"\*", "[^/]*") for part in re.split(r"[A-Z]{4,}", name))
    return "[^/]+".join(parts) + r"(-wal|-shm)?(/|$)"
