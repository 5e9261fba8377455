"""The command itself: help, exit codes, errors."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fedmq.errors import ConfigError
from fedmq_cli.app import Verbs, app

HEAVY = ("numpy", "pydantic", "pika", "yaml", "rich.live", "urllib3", "fedmq_schemas", "fedmq_reducer")


def _failing(error: BaseException) -> typer.Typer:
    failing = typer.Typer(cls=Verbs)

    @failing.callback()
    def root() -> None: ...

    @failing.command()
    def fail() -> None:
        raise error

    return failing


def test_help_lists_the_exit_codes() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "sandbox" in result.output
    assert "Exit codes: 0 done; 1 a session failed" in " ".join(result.output.split())


def _all_commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _all_commands(command, (*path, name))


VERBS = dict(_all_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_the_help_of_every_verb_says_what_it_does_and_the_exit_codes(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert VERBS[words].help
    assert "Exit codes: 0 done" in " ".join(result.output.split())
    undescribed = [each.name for each in VERBS[words].params if each.name != "help" and not each.help]
    assert undescribed == []


@pytest.mark.parametrize("words", [words for words in VERBS if words[0] == "run"], ids=" ".join)
def test_the_help_of_a_role_names_the_page_of_its_settings(words: tuple[str, ...]) -> None:
    assert (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").is_file()
    result = CliRunner().invoke(app, [*words, "--help"])
    assert "docs/reference/settings.md" in " ".join(result.output.split())


def test_all_but_servers_and_templates_answer_in_json() -> None:
    silent = {words for words, verb in VERBS.items() if "--json" not in {o for p in verb.params for o in p.opts}}
    groups = {("session",), ("model",), ("forget",), ("personal",), ("account",), ("run",)}
    servers = {("account", "serve"), *(words for words in VERBS if words[0] == "run" and words[1:])}
    assert silent - groups == {("session", "template"), *servers}


def test_the_command_starts_without_importing_what_a_verb_needs() -> None:
    code = f"import sys, fedmq_cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_2() -> None:
    result = CliRunner().invoke(_failing(ConfigError("no such folder: name another")), ["fail"])
    assert (result.exit_code, result.stderr) == (2, "fedmq: no such folder: name another\n")


def test_an_error_is_a_document_too_where_json_is_wanted() -> None:
    result = CliRunner().invoke(app, ["status", "--json", "--url", "nowhere"])
    reason = "'nowhere' is not a URL: write it as http://HOST:8090"
    assert (result.exit_code, json.loads(result.stdout)) == (2, {"error": reason})
    assert result.stderr == f"fedmq: {reason}\n"


def test_an_error_of_the_system_that_names_no_file_is_a_bug_and_passes() -> None:
    result = CliRunner().invoke(_failing(OSError(5, "Input/output error")), ["fail"])
    assert isinstance(result.exception, OSError)


def test_a_result_that_could_not_be_written_is_known_before_anything_is_trained(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["sandbox", "--package", str(tmp_path), "--json", str(tmp_path / "none" / "x")])
    assert (result.exit_code, "for x: make it first" in result.stderr) == (2, True)


def test_an_interrupted_verb_is_exit_code_130_and_says_so() -> None:
    result = CliRunner().invoke(_failing(KeyboardInterrupt()), ["fail"])
    assert (result.exit_code, result.stderr) == (130, "fedmq: interrupted\n")


def test_a_missing_dependency_is_answered_with_its_extra() -> None:
    error = ModuleNotFoundError("No module named 'fastapi'", name="fastapi.routing")
    result = CliRunner().invoke(_failing(error), ["fail"])
    assert result.exit_code == 2
    assert "pip install 'fedmq[server]'" in result.stderr


def test_a_missing_module_that_no_extra_brings_is_a_bug_and_passes() -> None:
    result = CliRunner().invoke(_failing(ModuleNotFoundError("No module named 'x'", name="x")), ["fail"])
    assert isinstance(result.exception, ModuleNotFoundError)


def test_a_place_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["init", str(tmp_path / "file" / "mine")])
    assert (result.exit_code, result.stderr) == (2, f"fedmq: {tmp_path / 'file' / 'mine'}: Not a directory\n")


@pytest.mark.parametrize("verb", ["run", "doctor"])
def test_a_wrong_s3_host_is_named_when_settings_are_read(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_MINIO_HOST", "https://s3.example")
    result = CliRunner().invoke(app, [verb, "reducer"])
    assert result.exit_code == 2
    assert "write FEDN_MINIO_HOST=s3.example, FEDN_MINIO_PORT=443, FEDN_MINIO_TLS=true" in result.output
