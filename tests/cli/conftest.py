"""The command, built once, and a served alliance to run it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from support.servers.served import Served, served

BUILT = cache(typer.main.get_command)


@pytest.fixture(autouse=True)
def _the_command_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer reads the signatures of all verbs to build it: not for each call of a test."""
    monkeypatch.setattr("typer.testing._get_command", BUILT)


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An alliance that is served on a port."""
    with served(tmp_path_factory.mktemp("alliance")) as running:
        yield running


@pytest.fixture
def folder(alliance: Served) -> Path:
    """Where the alliance keeps everything."""
    assert alliance.box.options.state_dir is not None
    return alliance.box.options.state_dir


@pytest.fixture
def fedmq(alliance: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs the command with the address in its environment, in an empty folder."""
    monkeypatch.setenv("FEDN_REDUCER_HOST", "127.0.0.1")
    monkeypatch.setenv("FEDN_REDUCER_PORT", alliance.url.rpartition(":")[2])
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
