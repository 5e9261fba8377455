"""A package, and pools with one and two workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.pool.runner import TRAINER, Runner
from fedmq_client.pool.processes import ProcessPool
from support.packages import write_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "package", TRAINER)


@pytest.fixture
def runner(package: Path) -> Iterator[Runner]:
    pool = ProcessPool(1)
    yield Runner(pool, package)
    pool.close()


@pytest.fixture
def two_workers(package: Path) -> Iterator[Runner]:
    pool = ProcessPool(2)
    yield Runner(pool, package)
    pool.close()
