"""The locks of the images: everything that an image installs, by hash, from whichever index its builder has."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.installs import brought_by

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
LOCKS = {path.stem: path.read_text(encoding="utf-8") for path in (FOLDER / "locks").glob("*.txt")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What the Dockerfile installs for whom; a lock of an extra holds the base install too.
EXTRAS = {name: "" if name == "client" else name for name in LOCKS if name != "build"}
CONTAINERS = {"platform_machine": "x86_64", "sys_platform": "linux", "python_full_version": "3.11.9"}


def pinned(text: str) -> list[Requirement]:
    """Returns the requirements of a lock or of the constraints, without hashes."""
    lines = [line.partition("\\")[0].strip() for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return [Requirement(line) for line in lines]


def versions(text: str) -> dict[str, str]:
    """Returns the version of each package in an image: for Python 3.11 on Linux and x86."""
    found: dict[str, str] = {}
    for each in pinned(text):
        if each.marker is None or each.marker.evaluate({**CONTAINERS, "python_version": "3.11"}):
            [specifier] = each.specifier
            assert specifier.operator == "==", each
            found[canonicalize_name(each.name)] = specifier.version
    return found


CONSTRAINTS = versions((FOLDER / "constraints.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_each_file_that_may_be_installed_is_named_by_its_hash(name: str) -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", LOCKS[name]))
    assert len(blocks) == len(pinned(LOCKS[name])) > 5
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


@pytest.mark.parametrize(
    "path", [*sorted((FOLDER / "locks").iterdir()), FOLDER / "constraints.txt"], ids=lambda p: p.name
)
def test_no_lock_names_an_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host| @ ", text)


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_all_images_have_the_versions_of_the_constraints(name: str) -> None:
    locked = versions(LOCKS[name])
    assert locked.items() <= CONSTRAINTS.items()


def test_no_constraint_is_left_over() -> None:
    assert {name for text in LOCKS.values() for name in versions(text)} == set(CONSTRAINTS)


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_satisfies_the_projects_own_bounds(name: str) -> None:
    locked = versions(LOCKS[name])
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(EXTRAS[name], ())]
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate(CONTAINERS):
            assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_lists_all_that_is_brought_here(name: str) -> None:
    """What `fedmq[extra]` brings where the tests run, which import all modules with it, its image installs too."""
    installed = {canonicalize_name(owner) for owners in packages_distributions().values() for owner in owners}
    brought = (brought_by(EXTRAS[name]) & installed) - {"fedmq"}
    assert len(brought) >= len(PROJECT["dependencies"])
    assert brought <= set(versions(LOCKS[name]))


def test_the_dockerfile_installs_from_locks_alone_and_refuses_what_they_do_not_list() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert "PIP_REQUIRE_HASHES=1 PIP_NO_DEPS=1 PIP_ONLY_BINARY=:all:" in text
    commands = re.findall(r"pip\b[^|&;]*? install ([^\n]*)", text)
    assert len(commands) > 5
    for command in commands:
        assert re.match(r'-q (-r "?locks/|/wheels/\*\.whl)', command), command
    named = {*re.findall(r"locks/(\w+)\.txt", text), *re.findall(r"lock=(\w+)", text)}
    assert named | {"traces"} == set(LOCKS)
