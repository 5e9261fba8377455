"""A backup while a session runs, everything lost, restored into empty stores: with real S3 and MongoDB's protocol."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmq.records.documents import LEASE_TABLE
from fedmq_schemas import records as tables
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
