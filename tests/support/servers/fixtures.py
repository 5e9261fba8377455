"""Fixtures for real servers: one of each kind for the whole test run, started when the first test asks for it.

A server that this machine lacks skips its tests; where the variable CI is set it fails them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.servers import choice, rabbitmq_4
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from support.tiers import require


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    require(choice.rabbitmq_missing())
    server = choice.make_rabbitmq(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def rabbitmq_4_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    require(rabbitmq_4.missing())
    server = rabbitmq_4.Rabbitmq4Server(tmp_path_factory.mktemp("rabbitmq-4"))
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require(choice.s3_missing())
    server = choice.make_s3(tmp_path_factory.mktemp("s3"))
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    require(choice.mongo_missing())
    server = choice.make_mongo(tmp_path_factory.mktemp("mongo"))
    try:
        yield server.start()
    finally:
        server.remove()
