"""A backup of a running session is restored: into the stores that were lost, and into other servers (a move)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmq.blobs.s3 import S3Blobs
from fedmq.records.documents import LEASE_TABLE
from fedmq_schemas import records as tables
from support.servers import choice
from system.deployment import Deployment, Servers
from system.node import COMMAND

pytestmark = pytest.mark.system
POLICY: dict[str, Any] = {
    "seed": "seed-system",
    "rounds": 1000,
    "clients_required": 2,
    "timeout": 60,
    "train": {"seconds": 0.5},
}


class Restored(Deployment):
    """One reducer and combiner, two clients."""

    def fedmq(self, *words: str | Path, code: int = 0) -> Any:
        """Returns the document that a verb prints, run with the settings of a reducer."""
        environment = self.environment("operator")
        if (reducer := self.nodes.get("reducer-1")) is not None:
            environment["FEDN_REDUCER_PORT"] = str(reducer.api_port)
        done = subprocess.run(
            [COMMAND, *words, "--json"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def stop_servers(self) -> None:
        """Stops the combiner, and then the reducer, once it has seen to all that the combiner has sent."""
        assert self.nodes["combiner-1"].stop() == 0
        self.until(lambda: not self.records.count(tables.COMBINERS, {"state": "present"}), "no combiner is present")
        assert self.nodes["reducer-1"].stop() == 0

    def use_stores_of(self, servers: Servers) -> None:
        """Changes the settings of reducer and combiner, which are stopped, and the stores that this test looks at."""
        self.records.close()
        self.servers = servers
        self.__post_init__()
        ours = self.environment("")
        for node in self.nodes.values():
            if node.role != "client":
                node.environment |= {name: ours[name] for name in ours if name.startswith(("FEDN_MINIO", "FEDN_MONGO"))}

    def lose_everything(self) -> None:
        for table in (*tables.TABLES, LEASE_TABLE):
            self.records.delete(table, {})
        for info in list(self.blobs.list("")):
            self.blobs.delete(info.key)


@pytest.fixture
def alliance(servers: Servers, tmp_path: Path) -> Iterator[Restored]:
    servers.start()
    deployment = Restored(tmp_path / "alliance", servers, "restored")
    with deployment:
        deployment.lose_everything()
        deployment.start(combiners=1, clients=2)
        deployment.seed()
        yield deployment


def test_a_backup_of_a_running_session_is_restored_and_the_session_and_a_new_one_go_on(
    alliance: Restored, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    alliance.start_session("running", **POLICY)
    alliance.await_round("running", 3)
    first = alliance.fedmq("backup", backup)
    alliance.await_round("running", alliance.round_of("running") + 2)
    second = alliance.fedmq("backup", backup)
    assert (first["faults"], second["faults"]) == ([], [])
    assert second["present"] >= first["blobs"] > 0 < second["blobs"]
    assert alliance.round_of("running") < 1000  # it was running all the time
    assert "is not empty" in alliance.fedmq("restore", backup, code=2)["error"]
    for name in ("reducer-1", "combiner-1", "client-1", "client-2"):
        alliance.nodes[name].kill()
    alliance.lose_everything()
    restored = alliance.fedmq("restore", backup)
    assert restored["check"]["faults"] == []
    saved = alliance.round_of("running")
    assert saved >= 5

    alliance.heal()
    newest = alliance.fedmq("models")[0]["model"]
    assert alliance.fedmq("model", "verify", newest)["outcome"] == "same"
    alliance.await_round("running", saved + 2)
    alliance.stop_session("running")
    assert alliance.await_end("running")["state"] == "stopped"
    alliance.start_session("afterwards", **{**POLICY, "seed": newest, "rounds": 2})
    assert alliance.await_end("afterwards")["state"] == "finished"
    assert alliance.fedmq("model", "verify", "--all")["faults"] == []


@pytest.fixture
def other_servers(servers: Servers, tmp_path: Path) -> Iterator[Servers]:
    """Other stores, on the same broker."""
    others = Servers(servers.rabbitmq, choice.make_s3(tmp_path / "s3"), choice.make_mongo(tmp_path / "mongo"))
    others.start()
    yield others
    others.s3.remove()
    others.mongo.remove()


def test_a_session_goes_on_after_its_stores_were_moved_to_other_servers(
    alliance: Restored, other_servers: Servers, tmp_path: Path
) -> None:
    """As docs/how-to/back-up.md describes it: first both stores by a backup, then the blobs alone by a mirror."""
    backup = tmp_path / "move"
    alliance.start_session("moved", **POLICY)
    alliance.await_round("moved", 1)
    alliance.fedmq("backup", backup)
    alliance.stop_servers()
    assert alliance.fedmq("backup", backup)["faults"] == []
    saved, old = alliance.round_of("moved"), alliance.servers
    alliance.use_stores_of(other_servers)
    assert alliance.fedmq("restore", backup)["check"]["faults"] == []
    assert alliance.round_of("moved") == saved
    alliance.heal().await_round("moved", saved + 2, 100)
    assert alliance.fedmq("model", "verify", "--all")["faults"] == []

    alliance.stop_servers()
    source, saved = alliance.blobs, alliance.round_of("moved")
    alliance.use_stores_of(Servers(old.rabbitmq, old.s3, other_servers.mongo))
    mirror(source, alliance.blobs)
    alliance.heal().await_round("moved", saved + 2, 100)
    assert alliance.fedmq("model", "verify", "--all")["faults"] == []
    alliance.stop_session("moved")
    assert alliance.await_end("moved")["state"] == "stopped"
    assert [event["data"] for event in alliance.records.find(tables.EVENTS, {"name": "update.rejected"})] == []


def mirror(source: S3Blobs, target: S3Blobs) -> None:
    """Makes the buckets of `target` equal to those of `source`, as the tools of S3 servers do."""
    for info in list(target.list("")):
        target.delete(info.key)
    for info in list(source.list("")):
        target.put(info.key, source.get(info.key))
