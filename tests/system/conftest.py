"""An alliance of real processes for each file of this folder, on servers that all share; each test finds it whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.servers.mongo import MongoServer
from support.servers.ports import free_ports
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from system.deployment import Deployment, Servers


@pytest.fixture(scope="session")
def servers(rabbitmq_server: RabbitmqServer, s3_server: S3Server, mongo_server: MongoServer) -> Servers:
    return Servers(rabbitmq_server, s3_server, mongo_server)


@pytest.fixture
def environment(servers: Servers, tmp_path: Path) -> dict[str, str]:
    """The settings of an alliance `patient`, none of whose roles runs, on servers that run. Its ports are free."""
    servers.start()
    deployment = Deployment(tmp_path / "patient", servers, "patient")
    deployment.until(lambda: servers.rabbitmq.manage("GET", "nodes")[0].get("fd_total"), "numbers of the broker")
    deployment.records.close()
    api, dashboard = free_ports(2)
    return deployment.environment("doctor") | {
        "FEDN_RABBITMQ_MANAGEMENT_URL": servers.rabbitmq.management_url,
        "FEDN_REDUCER_PORT": str(api),
        "FEDN_DASHBOARD_PORT": str(dashboard),
    }


@pytest.fixture(scope="module")
def started_alliance(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Two reducers, two combiners, six clients of 7, 14, … 42 examples."""
    name = request.path.stem.removeprefix("test_").replace("_", "-")
    servers.start()
    with Deployment(tmp_path_factory.mktemp("alliance"), servers, name) as deployment:
        deployment.start(reducers=2)
        deployment.seed()
        yield deployment


@pytest.fixture
def alliance(started_alliance: Deployment) -> Deployment:
    """The same one, mended if the test before this one left something broken."""
    return started_alliance.heal()


@pytest.fixture(scope="module")
def undisturbed(started_alliance: Deployment) -> str:
    """sha256 of the final model of a session with `FAULT_POLICY` that nothing happens to."""
    session = "undisturbed"
    started_alliance.heal().start_session(session, **FAULT_POLICY)
    assert started_alliance.await_end(session)["state"] == "finished"
    return started_alliance.final_sha256(session)


FAULT_POLICY: dict[str, Any] = {
    "seed": "seed-system",
    "rounds": 4,
    "clients_required": 6,
    "timeout": 60,
    "retries": 20,
    "random_seed": 7,
    "train": {"seconds": 0.3},
}
"""Every update is needed, and deadlines leave slack for any outage that the tests cause."""
