"""`fedmq settings` and the exit codes of `fedmq doctor`, as its help states them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmq_cli.app import app
from fedmq_cli.doctor import examination
from fedmq_cli.doctor.findings import CheckResult, Finding


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_settings_are_listed_with_value_source_default_and_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("FEDN_PRESENCE=5\n")
    monkeypatch.setenv("FEDN_AMQP_URL", "amqp://me:hush@host/")
    result = CliRunner().invoke(app, ["settings", "client"])

    assert result.exit_code == 0
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["setting", "value", "from", "default", "meaning"]
    [presence] = [line.split() for line in lines if line.startswith("FEDN_PRESENCE")]
    assert presence[:6] == ["FEDN_PRESENCE", "5", ".env", "10.0", "seconds", "between"]
    assert "hush" not in result.output and "FEDN_MONGO_HOST" not in result.output


def test_settings_are_a_document_for_programs_and_a_misspelt_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_CLEINT_NAME", "me")
    result = CliRunner().invoke(app, ["settings", "--json"])

    [row] = [each for each in json.loads(result.stdout) if each["name"] == "FEDN_REDUCER_PORT"]
    assert row == {
        "name": "FEDN_REDUCER_PORT",
        "default": "8090",
        "description": "port of the reducer's page and REST API",
        "roles": ["reducer", "dashboard", "control"],
        "is_secret": False,
        "value": "8090",
        "source": "default",
    }
    assert "FEDN_CLEINT_NAME is not a setting: did you mean FEDN_CLIENT_NAME?" in result.stderr


@pytest.mark.parametrize("verb", ["settings", "doctor"])
def test_an_unknown_role_is_answered_with_the_known_ones(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "server"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no role 'server': reducer, combiner, client, dashboard, control" in result.stderr


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("warning", 0), ("fault", 2)])
def test_the_doctors_exit_codes_are_those_of_its_help(
    monkeypatch: pytest.MonkeyPatch, verdict: CheckResult, code: int
) -> None:
    monkeypatch.setattr(examination, "examine", lambda _: iter([Finding("broker", verdict, "text")]))
    help_text = " ".join(CliRunner().invoke(app, ["doctor", "--help"]).output.split())

    assert CliRunner().invoke(app, ["doctor", "client"]).exit_code == code
    assert "Exit codes: 0 done, with warnings at most; 2 a fault" in help_text
    assert "faulty; 2" not in help_text
