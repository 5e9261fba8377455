"""Sorts the tests into tiers: a test is `real` if it needs more than this process, and otherwise of the fast tier.

A test is real if at least one of these holds:
- its module is in one of the `REAL_FOLDERS`, or imports a machine-learning framework or the like (`HEAVY`);
- it carries one of the `REAL_MARKS`, or uses one of the `REAL_FIXTURES`;
- it, a fixture of it, or a function of the tests that one of these calls uses one of the `STARTERS`: of processes, or of an
  alliance with its API on a port, which takes a second for each test.
"""

from __future__ import annotations

import ast
import inspect
import multiprocessing
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from fedmq_client.pool.processes import ProcessPool
from support.servers.served import served

TESTS = Path(__file__).parents[1]
REAL_FOLDERS = ("browser", "compose", "system")
REAL_MARKS = ("browser", "compose", "real", "system")
REAL_FIXTURES = {"chromium", "mongo_server", "rabbitmq", "rabbitmq_server", "s3_server"}
STARTERS = (multiprocessing, subprocess, ProcessPool, served)
HEAVY = re.compile(r"^(?:import|from) (flwr|keras|schemathesis|sklearn|tensorflow|torch)\b", re.MULTILINE)
"""An import at the head of a module that takes seconds."""


@cache
def is_real_path(path: Path) -> bool:
    """Returns whether all tests of a folder or module are real. Reads its text only: the fast tier need not import it."""
    if not {*path.relative_to(TESTS).parts}.isdisjoint(REAL_FOLDERS):
        return True
    is_module = path.suffix == ".py" and path.name.startswith("test_")
    return is_module and bool(heavy_imports(path))


def heavy_imports(path: Path) -> set[str]:
    """Returns the names of the heavy packages that a module imports at its head."""
    text = path.read_text(encoding="utf-8")
    found = set(HEAVY.findall(text))
    # The text of a user's code inside of a string imports nothing here.
    return found & _imported(ast.parse(text)) if found else found


def _imported(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


class ModuleWithoutItsFramework(pytest.Module):
    """Skips all tests of a module that imports a package which this environment lacks; where the variable CI is set, fails.

    With `--fast` no module is one: those that import such a package are not read.
    """

    @classmethod
    def of(cls, path: Path, parent: pytest.Collector) -> ModuleWithoutItsFramework | None:
        """Returns None if nothing is missing."""
        if any(find_spec(name) is None for name in heavy_imports(path)):
            return cls.from_parent(parent, path=path)
        return None

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        missing = sorted(name for name in heavy_imports(self.path) if find_spec(name) is None)
        require(f"not installed here: {', '.join(missing)}")
        return []


def require(missing: str | None) -> None:
    """Skips a test or module if `missing` says what this machine lacks for it. Fails where the variable CI is set."""
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing, allow_module_level=True)


def require_framework(name: str) -> None:
    """Skips a test of several frameworks for the one that is not installed: a new Python may lack it.

    In CI too, as the fast tests run without PyTorch and TensorFlow. Where all tests run, the modules that import it fail.
    """
    if find_spec(name) is None:
        pytest.skip(f"not installed here: {name}")


def is_real(item: pytest.Item) -> bool:
    """Returns whether a test needs a server, a browser, a framework or another process."""
    if is_real_path(item.path) or any(item.get_closest_marker(mark) for mark in REAL_MARKS):
        return True
    assert isinstance(item, pytest.Function)
    if not REAL_FIXTURES.isdisjoint(item.fixturenames):
        return True
    fixtures = item._fixtureinfo.name2fixturedefs  # pytest has no public way to a fixture's function
    return any(starts_processes(each) for each in [item.function, *(found[-1].func for found in fixtures.values())])


def starts_processes(function: Any) -> bool:
    """Returns whether a function of the tests, or one that it calls, names one of the `STARTERS`."""
    seen: set[Any] = set()
    waiting = _of_tests([function])
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        starts, called = _uses(current)
        if starts:
            return True
        waiting += called
    return False


@cache
def _uses(function: Any) -> tuple[bool, list[Any]]:
    """Returns whether a function or class of the tests names a starter, and the functions and classes that it names.

    Cached, as thousands of tests lead to the same few helpers.
    """
    if inspect.isclass(function):
        return False, _of_tests(each for each in vars(function).values() if inspect.isfunction(each))
    names = [*_names(function.__code__)]
    values = [function.__globals__.get(name) for name in names]
    # What a test calls by its module, as in `commands.finish(…)`.
    values += [getattr(each, name, None) for each in values if _is_module_of_tests(each) for name in names]
    return any(_is_starter(value) for value in values), _of_tests(values)


def _is_starter(value: Any) -> bool:
    """Returns whether a value is one of the `STARTERS`, or is imported from one, as in `from subprocess import run`."""
    modules = {starter.__name__ for starter in STARTERS if inspect.ismodule(starter)}
    return any(value is starter for starter in STARTERS) or getattr(value, "__module__", None) in modules


def _is_module_of_tests(value: Any) -> bool:
    return inspect.ismodule(value) and _is_file_of_tests(getattr(value, "__file__", None) or "")


@cache
def _is_file_of_tests(file: str) -> bool:
    return TESTS in Path(file).parents


def _of_tests(values: Iterable[Any]) -> list[Any]:
    """Returns the functions and classes of the tests among these values, without their decorators."""
    undecorated = [inspect.unwrap(value) for value in values]
    return [
        each
        for each in undecorated
        if (inspect.isfunction(each) or inspect.isclass(each)) and _is_module_of_tests(inspect.getmodule(each))
    ]


def _names(code: CodeType) -> Iterator[str]:
    """Yields the names that a function and the functions within it look up outside of themselves."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
