"""A new test is sorted into its tier by what it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from subprocess import run

import pytest

from sandbox import commands
from support.servers.served import served
from support.tiers import TESTS, ModuleWithoutItsFramework, is_real_path, require, starts_processes


def runs_a_process() -> None:
    subprocess.run([sys.executable, "--version"], check=True)


def calls_what_runs_a_process() -> None:
    def inner() -> None:
        runs_a_process()

    inner()


class Helper:
    def start(self) -> None:
        calls_what_runs_a_process()


def makes_a_helper() -> None:
    Helper().start()


def runs_a_process_by_an_imported_name() -> None:
    run([sys.executable, "--version"], check=True)


def runs_a_process_by_a_module_of_tests() -> None:
    commands.finish(TESTS, "")


def serves_an_alliance() -> None:
    with served(TESTS):
        pass


def computes() -> None:
    assert sorted([2, 1]) == [1, 2]


@pytest.mark.parametrize(
    "function",
    [
        runs_a_process,
        calls_what_runs_a_process,
        makes_a_helper,
        runs_a_process_by_an_imported_name,
        runs_a_process_by_a_module_of_tests,
        serves_an_alliance,
    ],
)
def test_a_function_that_leads_to_another_process_or_to_an_api_is_found(function: object) -> None:
    assert starts_processes(function)


def test_a_function_that_stays_in_this_process_is_not_found() -> None:
    assert not starts_processes(computes)


@pytest.mark.parametrize("path", ["system", "browser/conftest.py", "client/frameworks/test_torch_trainer.py"])
def test_what_imports_a_framework_or_is_among_real_tests_is_real(path: str) -> None:
    assert is_real_path(TESTS / path)


@pytest.mark.parametrize(
    "path", ["combiner", "combiner/test_core.py", "conftest.py", "client/frameworks/test_flower.py"]
)
def test_what_does_neither_is_not(path: str) -> None:
    assert is_real_path(TESTS / path) is False


def test_what_lacks_is_skipped_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    require(None)
    with pytest.raises(pytest.skip.Exception, match="no server"):
        require("no server")
    monkeypatch.setenv("CI", "true")
    require(None)
    with pytest.raises(pytest.fail.Exception, match="no server"):
        require("no server")


def test_a_module_without_its_framework_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "test_flower.py"
    path.write_text("import flwr\n")
    monkeypatch.setattr("support.tiers.find_spec", lambda _: None)
    module = ModuleWithoutItsFramework.of(path, request.session)
    assert module is not None
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="not installed here: flwr"):
        module.collect()
