"""`fedmq forget` deletes what has left for good, and says why it can't."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from fedmq_schemas import records as tables
from fedmq_schemas.records import ClientRecord, CombinerRecord
from support.servers.served import Served, served


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance")) as running:
        yield running


def _forget(alliance: Served, *words: str) -> Result:
    return CliRunner().invoke(app, ["forget", *words, "--url", alliance.url])


def test_members_that_are_away_are_forgotten_and_unknown_then(alliance: Served) -> None:
    client = ClientRecord(
        client="gone", labels={}, tasks=("train",), weight=1, combiner="gone", state="away", last_seen=0.0
    )
    alliance.box.records.put(tables.CLIENTS, "gone", client.document())
    combiner = CombinerRecord(combiner="gone", state="away", last_seen=0.0)
    alliance.box.records.put(tables.COMBINERS, "gone", combiner.document())
    for member in ("client", "combiner"):
        assert json.loads(_forget(alliance, member, "gone", "--json").stdout) == {member: "gone"}
        assert alliance.box.records.get(f"{member}s", "gone") is None
        again = _forget(alliance, member, "gone")
        assert (again.exit_code, f"there is no {member} 'gone'" in again.stderr) == (2, True)


@pytest.mark.parametrize(("member", "name"), [("client", "client1"), ("combiner", "combiner1")])
def test_a_member_that_is_present_stays_and_the_remedy_is_named(alliance: Served, member: str, name: str) -> None:
    refused = _forget(alliance, member, name)
    assert refused.exit_code == 2
    assert f"{member} '{name}' is present and can't be forgotten: stop it first" in refused.stderr
    assert alliance.box.records.get(f"{member}s", name) is not None
