"""Clients' cores, checked when their test is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from client.role.core_driver import ClientDriver, NewClient
from fedmq_client.role.core import ClientCore
from fedmq_client.role.operations import TaskResult
from fedmq_schemas.messages import Attach


@pytest.fixture
def new_client() -> Iterator[NewClient]:
    clients: list[ClientDriver] = []

    def make(attach: Attach | None = None, *kept: TaskResult) -> ClientDriver:
        client = ClientDriver(ClientCore("c1", attach or Attach(), kept))
        clients.append(client)
        client.start()
        return client

    yield make
    for client in clients:
        client.check()


@pytest.fixture
def client(new_client: NewClient) -> ClientDriver:
    """A client that is attached to the combiner `k1`."""
    client = new_client()
    client.attach("k1")
    return client
