"""The command itself: help, exit codes, errors."""

import subprocess
import sys

import typer
from typer.testing import CliRunner

from fedmq.errors import ConfigError
from fedmq_cli.app import Verbs, app

HEAVY = ("numpy", "pydantic", "pika", "yaml", "rich.live", "urllib3", "fedmq_schemas", "fedmq_reducer")


def _failing(error: Exception) -> typer.Typer:
    failing = typer.Typer(cls=Verbs)

    @failing.callback()
    def root() -> None: ...

    @failing.command()
    def fail() -> None:
        raise error

    return failing


def test_help_tells_the_exit_codes() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "sandbox" in result.output
    assert "Exit codes: 0 done; 1 a session failed" in " ".join(result.output.split())


def test_the_command_starts_without_importing_what_a_verb_needs() -> None:
    code = f"import sys, fedmq_cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_2() -> None:
    result = CliRunner().invoke(_failing(ConfigError("no such folder: name another")), ["fail"])
    assert (result.exit_code, result.stderr) == (2, "fedmq: no such folder: name another\n")


def test_a_missing_dependency_is_answered_with_its_extra() -> None:
    error = ModuleNotFoundError("No module named 'fastapi'", name="fastapi.routing")
    result = CliRunner().invoke(_failing(error), ["fail"])
    assert result.exit_code == 2
    assert "pip install 'fedmq[server]'" in result.stderr


def test_a_missing_module_that_no_extra_brings_is_a_bug_and_passes() -> None:
    result = CliRunner().invoke(_failing(ModuleNotFoundError("No module named 'x'", name="x")), ["fail"])
    assert isinstance(result.exception, ModuleNotFoundError)
