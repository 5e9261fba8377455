"""The command is built once, and not for each call of a test: typer reads the signatures of all verbs for that."""

from functools import cache

import pytest
import typer

BUILT = cache(typer.main.get_command)


@pytest.fixture(autouse=True)
def _the_command_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.testing._get_command", BUILT)
