"""`fedmq events --name` shows the events of these names alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from fedmq_sdk import Alliance
from support.servers.served import Served, served


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance")) as running:
        Alliance(running.url).start(id="one", rounds=2).wait(60)
        yield running


def _events(alliance: Served, *words: str) -> Result:
    return CliRunner().invoke(app, ["events", *words, "--json", "--url", alliance.url])


@pytest.mark.parametrize("words", [("--limit", "1000"), ("one", "--follow")])
def test_names_and_beginnings_of_names_are_combined(alliance: Served, words: tuple[str, ...]) -> None:
    done = _events(alliance, "--name", "round.committed", "--name", "session", *words)
    assert done.exit_code == 0, done.output
    names = {json.loads(line)["name"] for line in done.stdout.splitlines()}
    assert {"round.committed", "session.finished"} <= names
    assert all(name == "round.committed" or name.startswith("session") for name in names)


def test_an_unknown_name_is_refused_with_near_ones(alliance: Served) -> None:
    refused = _events(alliance, "--name", "mesage.refused")
    assert (refused.exit_code, "message.refused" in refused.stderr) == (2, True)
