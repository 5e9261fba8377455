"""Fixtures for real servers: one of each kind for the whole test run, started when the first test asks for it.

A server that this machine lacks skips its tests; where the variable CI is set it fails them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from servers.mongo import MongoServer
from servers.mongo import missing as mongo_missing
from servers.rabbitmq import RabbitmqServer
from servers.rabbitmq import missing as rabbitmq_missing
from servers.seaweedfs import S3Server
from servers.seaweedfs import missing as s3_missing


def require(missing: str | None) -> None:
    """Skips, or fails in CI, if `missing` says why a server can't be started."""
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    require(rabbitmq_missing())
    server = RabbitmqServer(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require(s3_missing())
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    require(mongo_missing())
    server = MongoServer(tmp_path_factory.mktemp("mongo"))
    try:
        yield server.start()
    finally:
        server.kill()
