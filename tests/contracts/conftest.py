"""The stores and brokers under contract: a new adapter is a line here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.stores import open_mongo, open_s3
from contracts.worlds import MemoryWorld, RabbitmqWorld, World
from fedmq.blobs.base import Blobs
from fedmq.blobs.files import FileBlobs
from fedmq.blobs.memory import MemoryBlobs
from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords
from support.clock import Clock
from support.servers.rabbitmq import RabbitmqServer

BLOBS = ["memory", "files", "files-fsync", pytest.param("s3", marks=pytest.mark.system)]
RECORDS = ["sqlite-memory", "sqlite-file", "sqlite-fsync", pytest.param("mongo", marks=pytest.mark.system)]
RABBITMQ = ["rabbitmq_server", "rabbitmq_4_server"]
BROKERS = ["memory", *(pytest.param(server, marks=pytest.mark.system) for server in RABBITMQ)]


@pytest.fixture(params=BLOBS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "memory":
        return MemoryBlobs()
    if request.param == "s3":
        return open_s3(request.getfixturevalue("s3_server"))
    return FileBlobs(tmp_path / "blobs", fsync=request.param == "files-fsync")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=RECORDS)
def records(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Records]:
    records: Records
    if request.param == "mongo":
        records = open_mongo(request.getfixturevalue("mongo_server"), clock)
    else:
        path = ":memory:" if request.param == "sqlite-memory" else tmp_path / "records.db"
        records = SqliteRecords(path, fsync=request.param == "sqlite-fsync", clock=clock)
    yield records
    records.close()


@pytest.fixture(params=BROKERS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = MemoryWorld() if request.param == "memory" else RabbitmqWorld(request.getfixturevalue(request.param))
    yield made
    made.close()


@pytest.fixture(scope="session", params=RABBITMQ)
def rabbitmq(request: pytest.FixtureRequest) -> RabbitmqServer:
    """RabbitMQ of each version that is under contract."""
    made: RabbitmqServer = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def rabbitmq_world(rabbitmq: RabbitmqServer) -> Iterator[RabbitmqWorld]:
    made = RabbitmqWorld(rabbitmq)
    yield made
    made.close()
