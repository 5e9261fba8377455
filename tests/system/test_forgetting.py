"""Members that have left for good are forgotten, with their queues; the ledgers keep their names."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmq_schemas import keys
from fedmq_schemas import records as tables
from system.deployment import Deployment, Servers
from system.node import COMMAND

pytestmark = pytest.mark.system


BRIEF = 5 / (24 * 3600)
"""Five seconds, in days."""
TWO_LOOKS = 150.0
"""Seconds within which a reducer deletes old records twice."""


@pytest.fixture
def alliance(servers: Servers, tmp_path: Path) -> Iterator[Deployment]:
    servers.start()
    with Deployment(tmp_path / "alliance", servers, "forgetting") as deployment:
        deployment.start(combiners=2, clients=2)
        yield deployment


@pytest.fixture
def brief(servers: Servers, tmp_path: Path) -> Iterator[Deployment]:
    """An alliance in which inboxes and records expire after five seconds."""
    servers.start()
    with Deployment(tmp_path / "alliance", servers, "expiring") as deployment:
        deployment.add("reducer", 1, FEDN_INBOX_DAYS=str(BRIEF), FEDN_RECORD_DAYS=str(BRIEF))
        for number in (1, 2):
            deployment.add("combiner", number)
        deployment.await_present(tables.COMBINERS, 2)
        yield deployment


def _queues(alliance: Deployment) -> set[str]:
    names = {each["name"] for each in alliance.servers.rabbitmq.manage("GET", "queues")}
    return {name for name in names if name.startswith(f"{alliance.alliance}.c")}


def test_departed_members_and_an_ended_session_are_forgotten_and_present_ones_are_not(alliance: Deployment) -> None:
    def fedmq(*words: str, code: int) -> dict[str, Any]:
        port = str(alliance.nodes["reducer-1"].api_port)
        environment = alliance.environment("operator") | {"FEDN_REDUCER_PORT": port}
        done = subprocess.run([COMMAND, *words, "--json"], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    fedmq("start", "--id", "old", "--seed", alliance.seed(), "--rounds", "1", "--follow", code=0)
    [committed] = alliance.records.find(tables.ROUNDS, {"session": "old"})
    assert fedmq("forget", "session", "old", code=0) == {"session": "old"}
    gone = (tables.SESSIONS, tables.ATTEMPTS, tables.PARTIALS)
    assert [alliance.records.count(table, {"session": "old"}) for table in gone] == [0, 0, 0]
    assert list(alliance.records.find(tables.ROUNDS, {"session": "old"})) == [committed]
    assert not [key for key in (info.key for info in alliance.blobs.list("updates/old/")) if keys.expiring_round(key)]
    assert alliance.blobs.get(committed["model"]["key"])

    for member, name in (("client", "client-2"), ("combiner", "combiner-2")):
        assert f"{member} '{name}' is present" in fedmq("forget", member, name, code=2)["error"]
        alliance.remove(name)
        alliance.until(partial(alliance.records.count, f"{member}s", {"state": "away"}), f"{name} is away")
        assert fedmq("forget", member, name, code=0) == {member: name}
        assert alliance.records.get(f"{member}s", name) is None
        alliance.until(partial(alliance.records.count, tables.EVENTS, {"name": f"{member}.forgotten"}), "the event")
    left = {"forgetting.client.client-1.v1", "forgetting.combiner.combiner-1.v2"}
    alliance.until(lambda: _queues(alliance) == left, "the queues of those who left are deleted")
    assert "no client 'client-2'" in fedmq("forget", "client", "client-2", code=2)["error"]


def test_the_inbox_of_a_departed_combiner_and_old_events_are_deleted_and_a_combiner_may_return(
    brief: Deployment,
) -> None:
    both = {f"expiring.combiner.combiner-{number}.v2" for number in (1, 2)}
    assert _queues(brief) == both
    brief.remove("combiner-2")
    brief.until(lambda: _queues(brief) == both - {"expiring.combiner.combiner-2.v2"}, "the inbox has expired")
    brief.add("combiner", 2)
    brief.await_present(tables.COMBINERS, 2)
    assert _queues(brief) == both

    def joined() -> int:
        return brief.records.count(tables.EVENTS, {"name": "combiner.joined"})

    brief.until(lambda: not joined(), "old events are deleted", TWO_LOOKS)
    assert brief.records.count(tables.COMBINERS) == 2
