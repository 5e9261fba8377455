"""`fedmq forget` deletes what has left for good, and says why it can't."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedmq_cli.app import app
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.records import ClientRecord, CombinerRecord
from fedmq_sdk import Alliance, Refused
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


LEDGER = (tables.ROUNDS, tables.MODELS, tables.PARTICIPATION, tables.VALIDATIONS, tables.SUMMARIES)
REMOVED = (tables.SESSIONS, tables.ATTEMPTS, tables.PARTIALS, tables.WINDOWS)


def _rows(alliance: Served, session: str, *names: str) -> dict[str, list[object]]:
    return {name: list(alliance.box.records.find(name, {"session": session})) for name in names}


def test_an_ended_session_is_forgotten_and_its_ledger_and_models_stay(alliance: Served) -> None:
    started = Alliance(alliance.url).start(id="old", rounds=2)
    started.wait(60)
    ledger, blobs = _rows(alliance, "old", *LEDGER), {info.key for info in alliance.box.blobs.list("")}
    assert all(ledger[name] for name in (tables.ROUNDS, tables.MODELS, tables.PARTICIPATION))
    assert json.loads(_forget(alliance, "session", "old", "--json").stdout) == {"session": "old"}
    assert _rows(alliance, "old", *LEDGER) == ledger
    assert not any(_rows(alliance, "old", *REMOVED).values())
    left = {info.key for info in alliance.box.blobs.list("")}
    assert {keys.expiring_round(key) is not None for key in blobs - left} == {True}
    assert not [key for key in left if key.startswith("updates/old/") and keys.expiring_round(key) is not None]
    again = _forget(alliance, "session", "old")
    assert (again.exit_code, "there is no session 'old'" in again.stderr) == (2, True)


def test_models_of_a_forgotten_session_are_listed_verified_in_part_and_its_name_stays_taken(alliance: Served) -> None:
    sdk = Alliance(alliance.url)
    sdk.start(id="older", rounds=2).wait(60)
    sdk.forget("session", "older")
    models = [row["model"] for row in sdk.models("older")]
    assert len(models) == 2
    verified = CliRunner().invoke(app, ["model", "verify", models[0], "--url", alliance.url])
    assert (verified.exit_code, "hashes and counts agree" in verified.stdout) == (3, True)
    sdk.start(id="newer", rounds=1, seed=models[0]).wait(60)
    with pytest.raises(Refused, match="'older' was forgotten, and its ledger keeps the name: choose another id"):
        sdk.start(id="older", rounds=1)


def test_models_of_a_forgotten_session_are_listed_and_downloaded_by_its_name(alliance: Served, tmp_path: Path) -> None:
    sdk = Alliance(alliance.url)
    sdk.start(id="oldest", rounds=2).wait(60)
    metric = next(name for name in sdk.models("oldest")[0] if "/" in name and " " not in name)
    sdk.forget("session", "oldest")

    def fedmq(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--url", alliance.url])

    listed = fedmq("models", "--session", "oldest", "--json")
    assert listed.exit_code == 0, listed.output
    models = [row["model"] for row in json.loads(listed.stdout)]
    assert len(models) == 2
    get = ("model", "get", "last", "--session", "oldest", "-o", str(tmp_path), "--json")
    assert json.loads(fedmq(*get).stdout)["model"] == models[0]
    best = ("model", "get", "best", "--session", "oldest", "-o", str(tmp_path), "--json")
    assert json.loads(fedmq(*best, "--metric", metric, "--mode", "max").stdout)["model"] in models
    assert "was forgotten, and its policy's `select` with it: give metric and mode" in fedmq(*best).stderr
    for words in (("models",), ("model", "get", "best"), ("model", "get", "last")):
        unknown = fedmq(*words, "--session", "nobody")
        assert (unknown.exit_code, "there is no session 'nobody'" in unknown.stderr) == (2, True)


def test_the_name_of_a_forgotten_session_without_a_round_stays_taken_too(alliance: Served) -> None:
    sdk = Alliance(alliance.url)
    waits = sdk.start(id="waits", rounds=1, clients_required=99)
    waits.stop()
    waits.wait(60)
    sdk.forget("session", "waits")
    forgotten = {"name": "session.forgotten", "session": "waits"}
    while not alliance.box.records.count(tables.EVENTS, forgotten):
        time.sleep(0.05)
    with pytest.raises(Refused, match="'waits' was forgotten"):
        sdk.start(id="waits", rounds=1)


def test_a_session_that_runs_stays_and_can_be_forgotten_once_the_remedy_is_followed(alliance: Served) -> None:
    sdk = Alliance(alliance.url)
    running = sdk.start(id="runs", rounds=100_000)
    running.refresh()
    refused = _forget(alliance, "session", "runs")
    assert (refused.exit_code, "can't be forgotten: `fedmq stop runs` ends it" in refused.stderr) == (2, True)
    assert CliRunner().invoke(app, ["stop", "runs", "--url", alliance.url]).exit_code == 0
    running.wait(60)
    assert _forget(alliance, "session", "runs").exit_code == 0
