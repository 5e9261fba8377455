"""Fuzzed messages and mutated updates of a client's account harm nobody in an alliance of real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.blobs import HONEST, run_blobs
from fuzz.servers import CLIENTS, COMBINERS, AccountedDeployment, run_fuzz, use_sqlite
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from system.deployment import Deployment, Servers

pytestmark = pytest.mark.system


@pytest.fixture
def servers(rabbitmq_server: RabbitmqServer, s3_server: S3Server, mongo_server: MongoServer) -> Servers:
    return Servers(rabbitmq_server, s3_server, mongo_server).start()


def test_2_000_messages_of_one_account_harm_nobody(servers: Servers, tmp_path: Path) -> None:
    """`make test-release` sends 100,000, and measures how long rounds take."""
    with AccountedDeployment(tmp_path / "fuzz", servers, "fuzz", presence=10.0) as deployment:
        use_sqlite(deployment)
        deployment.start(combiners=COMBINERS, clients=CLIENTS)
        found = run_fuzz(deployment, 2000, 300.0, 2, print)
    assert [fault for fault in found if "times as long" not in fault] == []


def test_60_mutated_updates_change_no_sum(servers: Servers, tmp_path: Path) -> None:
    """`make test-release` uploads 3,000."""
    with Deployment(tmp_path / "blobs", servers, "blobs", presence=10.0) as deployment:
        deployment.start(clients=HONEST)
        assert run_blobs(deployment, 60, 15, 1) == []
