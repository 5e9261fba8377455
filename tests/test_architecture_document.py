"""docs/architecture.md names files and functions: each of them exists, in the role that the name begins with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
SOURCES = sorted(
    path for folder in ("shared", "schemas", "services", "tests") for path in (ROOT / folder).rglob("*.py")
)
FUNCTION = re.compile(r"`([\w/]+\.py)` `([\w.]+)`")


ROLES = ("reducer", "combiner", "client")


def found(name: str) -> list[Path]:
    """The source files that the document may mean by a name: `client/core.py` is one of this role's package."""
    role, _, rest = name.partition("/")
    if role in ROLES:
        name = f"fedmq_{role}/{rest}"
    return [path for path in SOURCES if f"/{path.relative_to(ROOT)}".endswith(f"/{name}")]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py)`", TEXT))))
def test_a_file_that_it_names_exists_and_is_one_file(name: str) -> None:
    assert found(name)
    of_roles = [path for path in found(name) if "services" in path.parts or "shared" in path.parts]
    sessions = [path for path in of_roles if path.parent.name == "sessions" and "fedmq_reducer" in path.parts]
    assert len(sessions or of_roles) <= 1, "say whose it is"


@pytest.mark.parametrize(("name", "function"), sorted(set(FUNCTION.findall(TEXT))))
def test_a_function_that_it_names_is_in_that_file(name: str, function: str) -> None:
    defined = re.compile(rf"(def|class) {re.escape(function.rpartition('.')[2])}\b")
    assert any(defined.search(path.read_text()) for path in found(name))


def test_it_names_functions_in_a_form_that_these_tests_read() -> None:
    assert len(FUNCTION.findall(TEXT)) >= 15


def test_it_names_every_step_of_a_session_and_no_other_file_as_a_step() -> None:
    steps = ROOT / "services" / "reducer" / "fedmq_reducer" / "sessions" / "steps"
    names = {path.name for path in steps.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`steps/(\w+\.py)`", TEXT)) == names


@pytest.mark.parametrize("folder", sorted(set(re.findall(r"`((?:tests|services|shared|schemas)/[\w/]*)`", TEXT))))
def test_a_folder_that_it_names_exists(folder: str) -> None:
    assert (ROOT / folder).is_dir()
