"""Calls of verbs that several tests make. `fedmq` is the fixture of that name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

Verb = Callable[..., Result]


def json_of(result: Result, code: int = 0) -> dict[str, Any]:
    """Returns the document that a command printed. Asserts its exit code."""
    assert result.exit_code == code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def trained(fedmq: Verb, *settings: str) -> dict[str, Any]:
    """Runs a session of three rounds, and returns its record."""
    options = [word for setting in settings for word in ("--set", setting)]
    return json_of(fedmq("start", "--rounds", 3, *options, "--follow", "--json"))


def checked(fedmq: Verb, folder: Path, code: int) -> dict[str, Any]:
    """Returns the result of `fedmq model verify --all` on a folder. Asserts its exit code."""
    return json_of(fedmq("model", "verify", "--all", "--state-dir", folder, "--json"), code)
